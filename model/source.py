"""Where a checkpoint comes from, and how it gets into a folder on this machine.

`embedded:NAME` is in the package, a path is a folder, `hf://ID` and `kaggle://HANDLE` are downloaded: safetensors, JSON
and tokenizer files only, never a pickle.
"""

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from model.errors import CheckpointError

EMBEDDED_FOLDER: Final = Path(__file__).parent / "family" / "checkpoints"
_FILES: Final = ["*.safetensors", "*.json", "tokenizer.model", "*.jinja"]
_KAGGLE_FILES: Final = (
    "model.safetensors.index.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
)
_TOKENIZER_FILES: Final = ["tokenizer.json", "tokenizer_config.json"]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A stand-in that ships with the package."""

    name: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that `save_pretrained` could have written."""

    path: Path


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """A repository on the Hugging Face hub."""

    repo_id: str


@dataclass(frozen=True, slots=True)
class Kaggle:
    """A model handle on Kaggle: owner/model/framework/variation[/version]."""

    handle: str


Source = Embedded | Folder | HuggingFace | Kaggle


def parse_source(text: str) -> Source:
    """A `source:` setting as a value; raises `CheckpointError` when it has none of the known forms."""
    scheme, separator, rest = text.partition("://")
    if text.startswith("embedded:") and not separator:
        return Embedded(text.removeprefix("embedded:"))
    if separator and rest:
        match scheme:
            case "hf" if rest.count("/") == 1:
                return HuggingFace(rest)
            case "kaggle" if rest.count("/") in (3, 4):
                return Kaggle(rest)
            case "file":
                return Folder(Path(rest))
    elif text.startswith(("/", "./", "../", "~/")):
        return Folder(Path(os.path.expanduser(text)))  # Path's own fails where there is no home
    raise CheckpointError(
        f"source: {text[:100]!r} is not understood; write embedded:NAME, a folder as /path or ./path, "
        "hf://OWNER/NAME or kaggle://OWNER/MODEL/FRAMEWORK/VARIATION"
    )


def resolve(source: Source, revision: str | None, token: str | None, only_tokenizer: bool = False) -> Path:
    """The folder of a checkpoint, downloaded if need be; raises `CheckpointError` with the remedy. Blocks."""
    match source:
        case Embedded(name=name):
            known = sorted(path.name for path in EMBEDDED_FOLDER.iterdir() if path.is_dir())
            if name not in known:
                raise CheckpointError(f"source: embedded:{name} does not exist; there are {', '.join(known)}")
            return EMBEDDED_FOLDER / name
        case Folder(path=path):
            if not path.is_dir():
                raise CheckpointError(f"source: {path} is not a folder; check the path")
            return path
        case HuggingFace(repo_id=repo_id):
            return _from_hugging_face(repo_id, revision, token, _TOKENIZER_FILES if only_tokenizer else _FILES)
        case Kaggle(handle=handle):
            return _from_kaggle(handle, revision, only_tokenizer)
        case _:
            assert_never(source)


def describe(source: Source) -> tuple[str, bool, int]:
    """Name, stand-in flag and number of parameters (0: not known) without loading or downloading anything."""
    match source:
        case Embedded(name=name):
            return name, True, _count_parameters(EMBEDDED_FOLDER / name)
        case Folder(path=path):
            return path.name, _is_stand_in(path), _count_parameters(path)
        case HuggingFace(repo_id=name) | Kaggle(handle=name):
            return name, False, 0
        case _:
            assert_never(source)


def _is_stand_in(folder: Path) -> bool:
    from model.checkpoint import stand_in_for

    return stand_in_for(folder) is not None


def _count_parameters(folder: Path) -> int:
    from model.checkpoint import count_parameters

    return count_parameters(folder)


def _from_hugging_face(repo_id: str, revision: str | None, token: str | None, patterns: list[str]) -> Path:
    # Lazy: the library costs half a second and most starts need no hub.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    token = (token or "").strip() or None  # a secret read from a file ends in a newline, and a header may not
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise CheckpointError(
            f"hf://{repo_id}: HF_TOKEN is no token; it is one word such as hf_… on the account's page"
        )
    try:
        return Path(snapshot_download(repo_id, revision=revision, token=token, allow_patterns=patterns))
    except GatedRepoError as error:
        raise CheckpointError(
            f"hf://{repo_id}: the licence has not been accepted by this token's account; accept it on the model's page "
            f"(huggingface.co/{repo_id}), make a read token, and set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"hf://{repo_id}: revision {revision!r} does not exist; leave it out or fix it"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"hf://{repo_id}: there is no such repository, or the token may not see it; check the name and HF_TOKEN"
        ) from error
    except Exception as error:  # what the library, its transport and the disk raise; the type is enough to tell
        if _status(error) in (401, 403):
            raise CheckpointError(
                f"hf://{repo_id}: the hub refuses the token; make a new read token and set HF_TOKEN"
            ) from None  # the cause can hold the request's headers
        raise _not_downloaded(f"hf://{repo_id}", "the hub", error) from None


def _from_kaggle(handle: str, revision: str | None, only_tokenizer: bool) -> Path:
    """Only the files that a checkpoint consists of, each by its name: a bundle may hold pickles as well."""
    import kagglehub  # lazy, as above

    if revision and handle.count("/") == 3:
        handle = f"{handle}/{revision}"
    try:
        if only_tokenizer:
            return Path(kagglehub.model_download(handle, path="tokenizer.json")).parent
        folder = Path(kagglehub.model_download(handle, path="config.json")).parent
        for name in _KAGGLE_FILES:
            _download_if_there(handle, name)
        index = folder / "model.safetensors.index.json"
        weights = read_json(index).get("weight_map") if index.is_file() else {"": "model.safetensors"}
        for name in sorted(set(weights.values())) if isinstance(weights, dict) else ():
            if not str(name).endswith(".safetensors") or "/" in name:
                raise CheckpointError(f"{index}: {name!r} is no safetensors file; only those are loaded")
            kagglehub.model_download(handle, path=name)
        return folder
    except CheckpointError:
        raise
    except Exception as error:  # kagglehub raises what requests raises, and its own kinds
        status = _status(error)
        if status in (401, 403):
            raise CheckpointError(
                f"kaggle://{handle}: consent is missing; accept the terms on the model's page, set KAGGLE_API_TOKEN"
            ) from None
        if status == 404:
            raise CheckpointError(
                f"kaggle://{handle}: there is no such model, or it holds no safetensors; check the handle and take the "
                "transformers framework"
            ) from None
        raise _not_downloaded(f"kaggle://{handle}", "Kaggle", error) from None


def _download_if_there(handle: str, name: str) -> None:
    import kagglehub

    try:
        kagglehub.model_download(handle, path=name)
    except Exception as error:
        if _status(error) != 404:
            raise


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error of a hub's library, however deep it is wrapped."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _not_downloaded(what: str, hub: str, error: Exception) -> CheckpointError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return CheckpointError(f"{what}: cannot be stored ({error.strerror}); make room, or set HF_HOME elsewhere")
    if isinstance(error, ValueError):
        return CheckpointError(f"{what}: not a name that {hub} can have; check its spelling")
    status = _status(error)
    reason = f"status {status}" if status else type(error).__name__
    return CheckpointError(
        f"{what}: {hub} cannot be reached ({reason}); check the network, or download the model elsewhere and name its "
        "folder"
    )


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a checkpoint's file; raises `CheckpointError`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: the file is missing; download the checkpoint again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); download the checkpoint again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must hold a JSON object")
    return value
