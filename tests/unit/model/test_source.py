"""Where checkpoints come from: the real clients of both hubs, and a server here that answers as the hubs do."""

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import Size
from model.errors import CheckpointError
from model.source import (
    EMBEDDED_FOLDER,
    Embedded,
    Folder,
    HuggingFace,
    Kaggle,
    Source,
    describe,
    parse_source,
    read_json,
    resolve,
)

REPOSITORY = Path(__file__).parents[3]

FORMS: dict[str, Source] = {
    "embedded:nano-2b": Embedded("nano-2b"),
    "/models/gemma-2-2b-it": Folder(Path("/models/gemma-2-2b-it")),
    "./gemma": Folder(Path("gemma")),
    "../gemma": Folder(Path("../gemma")),
    "~/gemma": Folder(Path.home() / "gemma"),
    "file:///models/gemma": Folder(Path("/models/gemma")),
    "hf://google/gemma-2-27b-it": HuggingFace("google/gemma-2-27b-it"),
    "kaggle://google/gemma-2/transformers/gemma-2-9b-it": Kaggle("google/gemma-2/transformers/gemma-2-9b-it"),
    "kaggle://google/gemma-2/transformers/gemma-2-9b-it/2": Kaggle("google/gemma-2/transformers/gemma-2-9b-it/2"),
}
NO_FORMS = (
    "",
    "gemma",
    "google/gemma-2-2b-it",
    "hf://",
    "hf://gemma",
    "hf://a/b/c",
    "kaggle://a/b",
    "s3://a/b",
    "embedded",
    "~nobody-of-this-name/gemma",
)


@pytest.mark.parametrize("text", FORMS)
def test_every_form_of_a_source_is_understood(text: str) -> None:
    assert parse_source(text) == FORMS[text]


@pytest.mark.parametrize("text", NO_FORMS)
def test_other_forms_are_told_the_known_ones(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"is not understood; write embedded:NAME, a folder .* hf://OWNER/NAME"):
        parse_source(text)


@given(
    text=st.text(max_size=40)
    | st.sampled_from(("hf://", "kaggle://", "file://", "embedded:", "/")).flatmap(
        lambda scheme: st.text(max_size=20).map(lambda rest: scheme + rest)
    )
)
@settings(max_examples=150)
def test_a_source_never_fails_otherwise(text: str) -> None:
    try:
        parse_source(text)
    except CheckpointError as error:
        assert len(str(error)) < 800  # noqa: PT017 - either outcome is right


def test_stand_ins_are_found_by_name_and_others_listed() -> None:
    assert resolve(Embedded("nano-9b"), None, None) == EMBEDDED_FOLDER / "nano-9b"
    for name in ("gemma", "../family", "", "."):
        with pytest.raises(CheckpointError, match=r"does not exist; there are nano-27b, nano-2b, nano-9b"):
            resolve(Embedded(name), None, None)


def test_a_folder_has_to_be_one(tmp_path: Path) -> None:
    assert resolve(Folder(tmp_path), None, None) == tmp_path
    (tmp_path / "file").touch()
    for wrong in ("file", "nothing"):
        with pytest.raises(CheckpointError, match="is not a folder; check the path"):
            resolve(Folder(tmp_path / wrong), None, None)


def test_sources_are_described_without_a_download(tmp_path: Path) -> None:
    name, stand_in, parameters = describe(Embedded("nano-2b"))
    assert (name, stand_in) == ("nano-2b", True)
    assert 10**6 < parameters < 10**7
    assert describe(HuggingFace("google/gemma-2-2b-it")) == ("google/gemma-2-2b-it", False, 0)
    assert describe(Folder(tmp_path)) == (tmp_path.name, False, 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: (not readable as JSON|must hold a JSON object)"):
        read_json(path)


# A hub on this machine. Its repositories are named after what they do.

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD, BAD = "hf_goodSecret", "hf_badSecret"
NANO = EMBEDDED_FOLDER / "nano-2b"
LOADED = {path.name for path in NANO.iterdir() if path.suffix in (".safetensors", ".json", ".model", ".jinja")}
PICKLES = {"pytorch_model.bin": b"\x80\x04.", "consolidated.00.pth": b"\x80\x04.", "model.pt": b"\x80\x04."}
FILES = {path.name: path.read_bytes() for path in NANO.iterdir()} | PICKLES | {"run.py": b"raise SystemExit(1)"}


@dataclass
class Seen:
    requests: list[tuple[str, str]] = field(default_factory=list)  # path, authorization

    def paths(self, part: str) -> set[str]:
        return {path.rpartition("/")[2] for path, _ in self.requests if part in path}


class Hub(BaseHTTPRequestHandler):
    """Answers as huggingface.co and, asked as a proxy for `localhost`, as Kaggle's API do."""

    seen: Seen
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlparse(self.path)
        path = unquote(url.path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.seen.requests.append((path, token))
        parts = path.strip("/").split("/")
        owner, name = parts[2:4] if parts[0] == "api" else parts[:2]
        if token == BAD:
            self.answer(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif name == "none":
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif name == "down":
            self.answer(500, b"")
        elif name == "forbidden":
            self.answer(403, b"")
        elif "no-such-branch" in path:
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif parts[0] == "api" and "revision" in parts:
            body = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": file} for file in FILES]}
            self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
        elif parts[0] == "api":
            tree = [
                {"type": "file", "path": file, "size": len(data), "oid": f"{n:040x}"}
                for n, (file, data) in enumerate(FILES.items())
            ]
            self.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        elif name.startswith("gated") and token != GOOD:
            self.answer(403 if token else 401, b"", {"X-Error-Code": "GatedRepo"})
        else:
            number = list(FILES).index(parts[-1])
            self.answer(200, FILES[parts[-1]], {"ETag": f'"{number:040x}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.requests.append((f"kaggle/{asked.get('path', '')}", self.headers.get("Authorization") or ""))
        if asked["modelSlug"] == "gated":
            error = {"code": 403, "message": "Permission 'models.get' was denied"}
            self.answer(403, json.dumps(error).encode(), {"Content-Type": "application/json"})
        elif asked["modelSlug"] == "none" or asked.get("path") in ("model.safetensors.index.json", "tokenizer.model"):
            self.answer(404, json.dumps({"code": 404, "message": "no"}).encode(), {"Content-Type": "application/json"})
        elif self.path.endswith("/GetModelInstance"):
            self.answer(200, json.dumps({"versionNumber": 3}).encode(), {"Content-Type": "application/json"})
        else:
            self.answer(200, FILES[asked["path"]], {"Content-Type": "application/octet-stream"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


ASK = """
import json, sys, traceback
from model.errors import CheckpointError
from model.source import parse_source, resolve
for name, (source, revision, token, only_tokenizer) in json.load(sys.stdin).items():
    try:
        answer = {"folder": str(resolve(parse_source(source), revision, token, only_tokenizer))}
    except CheckpointError as error:
        answer = {"error": str(error), "trace": traceback.format_exc()}
    print("ANSWER" + json.dumps([name, answer]), flush=True)
"""

Case = tuple[str, str | None, str | None, bool]
KAGGLE = "transformers/gemma-2-2b-it"
CASES: dict[str, Case] = {
    "whole": ("hf://google/gated", None, f"{GOOD}\n", False),
    "whole again": ("hf://google/gated", COMMIT, GOOD, False),
    "tokenizer": ("hf://google/open", None, None, True),
    "gated, no token": ("hf://google/gated-2", None, None, False),
    "gated, not accepted": ("hf://google/gated-3", None, "hf_otherSecret", False),
    "bad token": ("hf://google/open", None, BAD, False),
    "two words of a token": ("hf://google/open", None, "hf_two\nSecret: words", False),
    "no repository": ("hf://google/none", None, GOOD, False),
    "no revision": ("hf://google/open", "no-such-branch", GOOD, False),
    "forbidden": ("hf://google/forbidden", None, GOOD, False),
    "no name": ("hf://goo gle/ge--mma..", None, GOOD, False),
    "kaggle": (f"kaggle://google/gemma-2/{KAGGLE}", None, None, False),
    "kaggle, a version": (f"kaggle://google/gemma-2/{KAGGLE}", "2", None, False),
    "kaggle, tokenizer": (f"kaggle://google/gemma-3/{KAGGLE}", None, None, True),
    "kaggle, no consent": (f"kaggle://google/gated/{KAGGLE}", None, None, False),
    "kaggle, none": (f"kaggle://google/none/{KAGGLE}", None, None, False),
}
AWAY: dict[str, Case] = {
    "hub away": ("hf://google/open", None, GOOD, False),
    "kaggle away": (f"kaggle://google/gemma-2/{KAGGLE}", None, None, False),
}


def ask(cases: dict[str, Case], port: int, home: Path) -> tuple[dict[str, dict[str, str]], str]:
    """Answers of a fresh process, since both clients read their endpoints when imported; and all that it printed."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "KAGGLEHUB_CACHE": str(home / "kaggle"),
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGGLE_API_TOKEN": "KGAT_kaggleSecret",
        "http_proxy": f"http://127.0.0.1:{port}",  # for `localhost`, where Kaggle's client then looks
        "no_proxy": "127.0.0.1",
    }
    run = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps(cases),
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = [line.partition("ANSWER")[2] for line in run.stdout.splitlines() if "ANSWER" in line]
    return dict(json.loads(line) for line in lines), run.stdout + run.stderr


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Seen, str]:
    seen = Seen()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHere", (Hub,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        answers, printed = ask(CASES, server.server_port, tmp_path_factory.mktemp("home"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    away, more = ask(AWAY, server.server_port, tmp_path_factory.mktemp("home"))  # nobody listens there any more
    return answers | away, seen, printed + more


REMEDIES = {
    "gated, no token": r"the licence has not been accepted .* .*huggingface\.co/google/gated-2\).* set HF_TOKEN",
    "gated, not accepted": r"the licence has not been accepted .* set HF_TOKEN",
    "bad token": "the hub refuses the token; make a new read token and set HF_TOKEN",
    "two words of a token": "HF_TOKEN is no token",
    "no repository": "there is no such repository, or the token may not see it; check the name and HF_TOKEN",
    "no revision": "revision 'no-such-branch' does not exist; leave it out or fix it",
    "forbidden": "the hub refuses the token",
    "no name": "not a name that the hub can have; check its spelling",
    "hub away": r"the hub cannot be reached .* check the network, or download the model elsewhere and name its folder",
    "kaggle, no consent": "consent is missing; accept the terms on the model's page, set KAGGLE_API_TOKEN",
    "kaggle, none": "there is no such model, or it holds no safetensors; check the handle",
    "kaggle away": r"Kaggle cannot be reached \(.*\); check the network",
}


@pytest.mark.parametrize("case", REMEDIES)
def test_a_refusal_names_its_remedy(asked: tuple[dict[str, Any], Seen, str], case: str) -> None:
    answers, _, _ = asked
    assert "error" in answers[case], answers[case]
    assert re.search(REMEDIES[case], answers[case]["error"]), answers[case]["error"]
    assert answers[case]["error"].startswith((CASES | AWAY)[case][0])


def test_no_token_is_ever_printed(asked: tuple[dict[str, Any], Seen, str]) -> None:
    answers, seen, printed = asked
    assert any(token == GOOD for _, token in seen.requests)  # they were sent, though
    assert any("kaggleSecret" in token for _, token in seen.requests)
    assert "Secret" not in printed
    assert "Secret" not in json.dumps(answers)


def test_a_download_is_a_checkpoint_that_opens_without_its_pickles(asked: tuple[dict[str, Any], Seen, str]) -> None:
    from model.checkpoint import open_checkpoint

    answers, seen, _ = asked
    for case in ("whole", "kaggle", "kaggle, a version"):
        folder = Path(answers[case]["folder"])
        assert {path.name for path in folder.iterdir() if path.is_file()} <= LOADED
        assert (folder / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]
        assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert answers["whole again"]["folder"] == answers["whole"]["folder"]
    assert "/2" in answers["kaggle, a version"]["folder"]
    assert not seen.paths("resolve") & {*PICKLES, "run.py", "README.md"}
    assert not seen.paths("kaggle/") & {*PICKLES, "run.py", "README.md"}
    assert open_checkpoint(Path(answers["whole"]["folder"]), Size.B2).num_parameters > 10**6


@pytest.mark.parametrize("case", ["tokenizer", "kaggle, tokenizer"])
def test_for_its_tokenizer_no_weights_are_fetched(asked: tuple[dict[str, Any], Seen, str], case: str) -> None:
    folder = Path(asked[0][case]["folder"])
    assert {path.name for path in folder.iterdir()} <= {"tokenizer.json", "tokenizer_config.json"}
    assert (folder / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]
