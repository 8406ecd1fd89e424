"""What a checkpoint folder holds, read from its headers: nothing is loaded.

Everything that can be wrong with a folder is found here, before any memory is taken: a missing shard, a wrong hash, a
shape that is not the size's, another architecture, a pickle.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from model.config import SIZES, SLIDING_WINDOW_TOKENS, VOCABULARY, Size
from model.errors import CheckpointError
from model.source import read_json

_MAX_HEADER_BYTES: Final = 100 * 2**20  # the limit of the safetensors library
_DTYPE_BYTES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1}
_WEIGHT_DTYPES: Final = ("F32", "F16", "BF16")
_LOADED_SUFFIXES: Final = (".safetensors", ".json", ".model", ".jinja")
_MANIFEST: Final = "manifest.json"
_INDEX: Final = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers that decide every tensor's shape."""

    layers: int
    hidden: int
    intermediate: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int


def shape_of(size: Size) -> ModelShape:
    """The shape of a released size."""
    facts = SIZES[size]
    return ModelShape(
        facts.layers,
        facts.hidden,
        facts.intermediate,
        facts.attention_heads,
        facts.kv_heads,
        facts.head_dim,
        VOCABULARY,
    )


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor and where its bytes are: [start, end) in the file."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that was found in order."""

    folder: Path
    name: str
    shape: ModelShape
    tensors: Mapping[str, TensorEntry]
    stand_in: bool

    @property
    def num_parameters(self) -> int:
        """Parameters; the tied head is the embedding and counts once."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.end - tensor.start for tensor in self.tensors.values())


def open_checkpoint(folder: Path, size: Size, verify_hashes: bool = True) -> Checkpoint:
    """The checkpoint of a folder, checked against the size it is to serve; raises `CheckpointError`."""
    for path in folder.iterdir():
        _expect_inside(folder, path)
    shape = _shape(folder)
    stand_in = stand_in_for(folder)
    if stand_in is None:
        _expect_size(folder, shape, size)
        _expect_numbers(folder, size)
    elif stand_in != size:
        raise CheckpointError(f"{folder}: is a stand-in for {stand_in}, not for {size}; put it in its own slot")
    tensors = _tensors(folder)
    _expect_tensors(folder, shape, tensors)
    if verify_hashes:
        check_manifest(folder)
    return Checkpoint(folder, folder.name, shape, tensors, stand_in is not None)


def _tensors(folder: Path) -> dict[str, TensorEntry]:
    tensors: dict[str, TensorEntry] = {}
    for path in weight_files(folder):
        for entry in read_header(path):
            if entry.name in tensors:
                raise CheckpointError(
                    f"{path}: {entry.name[:100]!r} is in {tensors[entry.name].file.name} too; remove the file that is "
                    "not of this checkpoint"
                )
            tensors[entry.name] = entry
    return tensors


def stand_in_for(folder: Path) -> Size | None:
    """The size whose slot a stand-in is made for; None for a real checkpoint."""
    path = folder / _MANIFEST
    if not path.is_file():
        return None
    name = read_json(path).get("stand_in_for")
    return Size(name) if isinstance(name, str) and name in set(Size) else None


def count_parameters(folder: Path) -> int:
    """Parameters of a folder by its headers; 0 when it cannot be read."""
    try:
        return sum(prod(entry.shape) for path in weight_files(folder) for entry in read_header(path))
    except CheckpointError:
        return 0


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, all there; raises `CheckpointError`."""
    index = folder / _INDEX
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise CheckpointError(f"{index}: holds no weight_map; download the checkpoint again")
        names = sorted(set(weight_map.values()))
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
            raise CheckpointError(
                f"{folder}: holds pickled weights only, which are never loaded; "
                "convert them with save_pretrained(safe_serialization=True)"
            )
        raise CheckpointError(f"{folder}: holds no safetensors file; check the folder")
    for name in names:
        path = folder / name
        if not name.endswith(".safetensors"):
            raise CheckpointError(f"{index}: {name[:100]!r} is no safetensors file, and others are never loaded")
        if "/" in name or not path.is_file():
            raise CheckpointError(f"{path}: the shard is missing; download the checkpoint again")
        _expect_inside(folder, path)
    return [folder / name for name in names]


def read_header(path: Path) -> Iterator[TensorEntry]:
    """Tensors of a safetensors file; every offset is checked against the file before it is believed."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise CheckpointError(f"{path}: header of {length} bytes in a file of {size}; download the file again")
            header = json.loads(file.read(length))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, RecursionError) as error:  # brackets without end nest deeper than the parser may go
        raise CheckpointError(f"{path}: the header is not JSON; download the file again") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is not an object; download the file again")
    for name, entry in header.items():
        if name != "__metadata__":
            yield _entry(path, name, entry, data_bytes=size - 8 - length, begin=8 + length)


def _entry(path: Path, name: str, entry: Any, data_bytes: int, begin: int) -> TensorEntry:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(number) is int and 0 <= number < 2**63 for number in (*shape, start, end))
        expected = prod(shape) * _DTYPE_BYTES[dtype] if whole and len(shape) <= 8 else -1  # never multiply text
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the entry of {name[:100]!r} is malformed; download the file again") from error
    if not whole or not start <= end <= data_bytes or end - start != expected:
        raise CheckpointError(
            f"{path}: {name[:100]!r} claims bytes {start!r:.20} to {end!r:.20} of {data_bytes}; the file "
            "is cut short or damaged, download it again"
        )
    return TensorEntry(name, path, dtype, shape, begin + start, begin + end)


def check_manifest(folder: Path) -> None:
    """Compare every file with the manifest's sha256, when there is a manifest; raises `CheckpointError`.

    What can be loaded has to be listed and there. Other listed files, a card for example, may be missing: they are not
    downloaded.
    """
    path = folder / _MANIFEST
    if not path.is_file():
        return
    files = read_json(path).get("files")
    if not isinstance(files, dict):
        raise CheckpointError(f"{path}: lists no files; download the checkpoint again")
    for name, facts in files.items():
        file = folder / name
        if not file.is_file():
            if file.suffix not in _LOADED_SUFFIXES:
                continue
            raise CheckpointError(f"{file}: the manifest lists it and it is missing; download the checkpoint again")
        _expect_inside(folder, file)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if not isinstance(facts, dict) or digest != facts.get("sha256"):
            raise CheckpointError(f"{file}: sha256 is {digest}, the manifest says otherwise; download the file again")
    for file in folder.iterdir():
        if file.suffix in _LOADED_SUFFIXES and file.name not in files and file.name != _MANIFEST:
            raise CheckpointError(f"{file}: the manifest does not list it; remove it, or write the manifest again")


def _shape(folder: Path) -> ModelShape:
    config = read_json(folder / "config.json")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or "Gemma2ForCausalLM" not in architectures:
        raise CheckpointError(f"{folder / 'config.json'}: architecture is {architectures}, not Gemma2ForCausalLM")
    names = {
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "intermediate": "intermediate_size",
        "attention_heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "head_dim": "head_dim",
        "vocabulary": "vocab_size",
    }
    values: dict[str, int] = {}
    for field, name in names.items():
        value = config.get(name)
        if type(value) is not int or value <= 0:
            raise CheckpointError(f"{folder / 'config.json'}: {name} is {value!r}, a positive number is needed")
        values[field] = value
    return ModelShape(**values)


def _expect_size(folder: Path, shape: ModelShape, size: Size) -> None:
    real = shape_of(size)
    if shape != real:
        raise CheckpointError(
            f"{folder / 'config.json'}: {shape.layers} layers of {shape.hidden} are not Gemma 2 {size} "
            f"({real.layers} of {real.hidden}); put the checkpoint in its own slot"
        )


def _expect_numbers(folder: Path, size: Size) -> None:
    """Numbers that change no shape and every answer: an early 9B, for one, was published with a scale of 224."""
    config = read_json(folder / "config.json")
    real = {
        "query_pre_attn_scalar": SIZES[size].query_pre_attn_scalar,
        "sliding_window": SLIDING_WINDOW_TOKENS,
        "attn_logit_softcapping": 50,
        "final_logit_softcapping": 30,
    }
    for name, wanted in real.items():
        if config.get(name, wanted) != wanted:
            raise CheckpointError(
                f"{folder / 'config.json'}: {name} is {config[name]!r}, Gemma 2 {size} has {wanted}; correct the file"
            )


def _expect_tensors(folder: Path, shape: ModelShape, tensors: Mapping[str, TensorEntry]) -> None:
    expected = tensor_shapes(shape)
    for name, wanted in expected.items():
        found = tensors.get(name)
        if found is None:
            raise CheckpointError(f"{folder}: tensor {name} is missing; download the checkpoint again")
        if found.shape != wanted:
            raise CheckpointError(f"{found.file}: {name} has shape {found.shape}, the config says {wanted}")
        if found.dtype not in _WEIGHT_DTYPES:
            raise CheckpointError(
                f"{found.file}: {name} is stored as {found.dtype}; quantized weights are not loadable yet, "
                "use the bf16 checkpoint"
            )
    unexpected = tensors.keys() - expected.keys() - {"lm_head.weight"}  # a stored head is the tied embedding
    if unexpected:
        raise CheckpointError(
            f"{folder}: tensor {min(unexpected)[:100]!r} has no place in Gemma 2; is this another model?"
        )


def tensor_shapes(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Every tensor of a Gemma 2 of this shape; the head is tied to the embedding and not stored."""
    queries, keys = shape.attention_heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (queries, shape.hidden),
        "self_attn.k_proj.weight": (keys, shape.hidden),
        "self_attn.v_proj.weight": (keys, shape.hidden),
        "self_attn.o_proj.weight": (shape.hidden, queries),
        "mlp.gate_proj.weight": (shape.intermediate, shape.hidden),
        "mlp.up_proj.weight": (shape.intermediate, shape.hidden),
        "mlp.down_proj.weight": (shape.hidden, shape.intermediate),
        "input_layernorm.weight": (shape.hidden,),
        "post_attention_layernorm.weight": (shape.hidden,),
        "pre_feedforward_layernorm.weight": (shape.hidden,),
        "post_feedforward_layernorm.weight": (shape.hidden,),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, shape.hidden)}
    for index in range(shape.layers):
        shapes |= {f"model.layers.{index}.{name}": wanted for name, wanted in layer.items()}
    shapes["model.norm.weight"] = (shape.hidden,)
    return shapes


def _expect_inside(folder: Path, path: Path) -> None:
    """A link may lead into the hub's own cache (snapshots/REVISION → blobs), and nowhere else."""
    real, root = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    allowed = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    if not any(real.is_relative_to(place) for place in allowed):
        raise CheckpointError(f"{path}: links out of the checkpoint's folder; copy the file into it")
