"""Whatever is wrong with a folder is said before memory is taken, and never by another exception."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import deserialize

from model.checkpoint import (
    ModelShape,
    check_manifest,
    count_parameters,
    open_checkpoint,
    read_header,
    shape_of,
    stand_in_for,
    tensor_shapes,
    weight_files,
)
from model.config import SIZES, Size
from model.errors import CheckpointError
from model.source import EMBEDDED_FOLDER

Entry = dict[str, Any]
REAL_CONFIG: Entry = {
    "architectures": ["Gemma2ForCausalLM"],
    "num_hidden_layers": 26,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 256_000,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
CONFIG: Entry = {
    **REAL_CONFIG,
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "vocab_size": 11,
}
TINY = ModelShape(1, 8, 16, 2, 1, 4, 11)


def safetensors(entries: Entry, data_bytes: int) -> bytes:
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + bytes(data_bytes)


def entries_of(shapes: dict[str, tuple[int, ...]], dtype: str = "BF16") -> tuple[Entry, int]:
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, width = end, {"BF16": 2, "I8": 1}[dtype]
        for number in shape:
            width *= number
        end = start + width
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    return entries, end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole, tiny stand-in for the 2B in two shards, with an index and a manifest."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    stand_in = {"stand_in_for": "2b", "files": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(stand_in))
    shapes = tensor_shapes(TINY)
    names = sorted(shapes)
    weight_map: dict[str, str] = {}
    for shard, part in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        (tmp_path / shard).write_bytes(safetensors(*entries_of({name: shapes[name] for name in part})))
        weight_map |= dict.fromkeys(part, shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    seal(tmp_path)
    return tmp_path


def seal(folder: Path, size: str = "2b") -> None:
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps({"stand_in_for": size, "files": files}))


def refused(folder: Path, says: str, size: Size = Size.B2) -> None:
    with pytest.raises(CheckpointError, match=says) as caught:
        open_checkpoint(folder, size)
    assert str(folder) in str(caught.value)


def test_a_whole_folder_is_opened_and_counted(folder: Path) -> None:
    checkpoint = open_checkpoint(folder, Size.B2)
    assert checkpoint.stand_in
    assert checkpoint.num_parameters == count_parameters(folder) == 11 * 8 + 8 * 5 + 2 * 64 + 2 * 32 + 3 * 128
    assert checkpoint.num_bytes == 2 * checkpoint.num_parameters
    assert {entry.file.name for entry in checkpoint.tensors.values()} == {"a.safetensors", "b.safetensors"}


@pytest.mark.parametrize(("name", "size"), [("nano-2b", Size.B2), ("nano-9b", Size.B9), ("nano-27b", Size.B27)])
def test_the_stand_ins_are_in_order_for_their_own_slots_only(name: str, size: Size) -> None:
    folder = EMBEDDED_FOLDER / name
    assert open_checkpoint(folder, size, verify_hashes=False).stand_in
    assert stand_in_for(folder) is size
    for other in set(Size) - {size}:
        refused(folder, f"is a stand-in for {size}, not for {other}", other)


def test_offsets_lead_to_the_bytes_that_safetensors_reads() -> None:
    path = EMBEDDED_FOLDER / "nano-2b" / "model.safetensors"
    content = path.read_bytes()
    theirs = dict(deserialize(content))
    ours = {entry.name: entry for entry in read_header(path)}
    assert ours.keys() == theirs.keys()
    for name, entry in ours.items():
        assert entry.shape == tuple(theirs[name]["shape"])
        assert content[entry.start : entry.end] == theirs[name]["data"]


def _unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _write(name: str, content: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(json.dumps(content))

    return write


def _config(**changes: object) -> Callable[[Path], None]:
    return _write("config.json", {**CONFIG, **changes})


def _pickles_only(folder: Path) -> None:
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def _no_weights(folder: Path) -> None:
    _pickles_only(folder)
    (folder / "pytorch_model.bin").unlink()


def _cut(folder: Path) -> None:
    os.truncate(folder / "a.safetensors", (folder / "a.safetensors").stat().st_size - 1)


def _cut_in_header(folder: Path) -> None:
    os.truncate(folder / "a.safetensors", 40)


def _link_out(name: str) -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        outside = folder.parent / f"{folder.name}-outside"
        shutil.move(folder / name, outside)
        (folder / name).symlink_to(outside)

    return link


def _link_out_unlisted(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    _link_out("tokenizer.json")(folder)


def _unlisted(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["b.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _twice(folder: Path) -> None:
    (folder / "model.safetensors.index.json").unlink()
    shutil.copy(folder / "a.safetensors", folder / "z.safetensors")
    seal(folder)


def _index(content: object) -> Callable[[Path], None]:
    return _write("model.safetensors.index.json", content)


def _another_tensor(folder: Path) -> None:
    _index({"weight_map": {"x": "x.safetensors", "a": "a.safetensors", "b": "b.safetensors"}})(folder)
    entries, end = entries_of({"model.vision.weight": (2,)})
    (folder / "x.safetensors").write_bytes(safetensors(entries, end))


def _quantized(folder: Path) -> None:
    (folder / "model.safetensors.index.json").unlink()
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (folder / "q.safetensors").write_bytes(safetensors(*entries_of(tensor_shapes(TINY), "I8")))


def _flip(folder: Path) -> None:
    content = bytearray((folder / "b.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "b.safetensors").write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (_unlink("config.json"), r"config\.json: the file is missing"),
    "another architecture": (_config(architectures=["LlamaForCausalLM"]), "not Gemma2ForCausalLM"),
    "no architecture": (_config(architectures=None), "not Gemma2ForCausalLM"),
    "a width of text": (_config(hidden_size="8"), "hidden_size is '8', a positive number is needed"),
    "a width below nothing": (_config(head_dim=-4), "head_dim is -4"),
    "a width of a truth": (_config(num_hidden_layers=True), "num_hidden_layers is True"),
    "pickles only": (_pickles_only, r"pickled weights only, which are never loaded; convert them with save_pretrained"),
    "no weights": (_no_weights, "holds no safetensors file"),
    "a missing shard": (_unlink("b.safetensors"), r"b\.safetensors: the shard is missing"),
    "a cut file": (_cut, r"cut short or damaged, download it again"),
    "a cut header": (_cut_in_header, r"header of \d+ bytes in a file of 40"),
    "another shape": (_config(hidden_size=16), r"has shape .*, the config says"),
    "another tensor": (_another_tensor, r"'model\.vision\.weight' has no place in Gemma 2"),
    "a layer too few": (_config(num_hidden_layers=2), r"tensor model\.layers\.1\..* is missing"),
    "quantized weights": (_quantized, "stored as I8; quantized weights are not loadable yet"),
    "a wrong hash": (_flip, r"b\.safetensors: sha256 is [0-9a-f]{64}, the manifest says otherwise"),
    "a link out": (_link_out("a.safetensors"), r"a\.safetensors: links out of the checkpoint's folder"),
    "a config elsewhere": (_link_out("config.json"), r"config\.json: links out of the checkpoint's folder"),
    "a tokenizer elsewhere": (_link_out_unlisted, r"tokenizer\.json: links out of the checkpoint's folder"),
    "weights without a hash": (_unlisted, r"b\.safetensors: the manifest does not list it; remove it"),
    "a tensor in two shards": (_twice, r"z\.safetensors: 'model\..*' is in a\.safetensors too; remove the file"),
    "an index of nothing": (_index({"weight_map": {}}), "holds no safetensors file"),
    "an index without a map": (_index({}), "holds no weight_map"),
    "an index of numbers": (_index({"weight_map": {"a": 1}}), "holds no weight_map"),
    "an index that is a list": (_index([]), "must hold a JSON object"),
    "an index out of the folder": (_index({"weight_map": {"a": "../../etc/x.safetensors"}}), "the shard is missing"),
    "an index to a pickle": (
        _index({"weight_map": {"a": "pytorch_model.bin"}}),
        r"'pytorch_model\.bin' is no safetensors file, and others are never loaded",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_file(folder: Path, fault: str) -> None:
    spoil, says = FAULTS[fault]
    spoil(folder)
    refused(folder, says)


def test_a_manifest_that_lists_a_missing_file_or_leads_out_is_refused(folder: Path) -> None:
    manifest = folder / "manifest.json"
    for files, says in (
        ({"gone.json": {"sha256": "0"}}, "the manifest lists it and it is missing"),
        ({"../outside": {"sha256": "0"}}, "links out of the checkpoint's folder"),
        ({"config.json": "text"}, "the manifest says otherwise"),
        ([], "lists no files"),
    ):
        (folder.parent / "outside").write_text("")
        manifest.write_text(json.dumps({"files": files}))
        with pytest.raises(CheckpointError, match=says):
            check_manifest(folder)


def test_a_listed_card_may_be_missing_as_it_is_not_downloaded(folder: Path) -> None:
    (folder / "README.md").write_text("a card")
    seal(folder)
    (folder / "README.md").unlink()
    assert open_checkpoint(folder, Size.B2).stand_in


def test_a_link_may_lead_to_the_hubs_blobs_but_not_to_its_neighbours(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "cache" / "snapshots" / "0123abc"
    shutil.copytree(folder, snapshot, ignore=shutil.ignore_patterns("cache"))
    shutil.move(snapshot / "config.json", tmp_path / "cache" / "config.json")
    (snapshot / "config.json").symlink_to("../../config.json")
    refused(snapshot, r"config\.json: links out")


@pytest.mark.parametrize("stand_in", ["3b", 2, None, ["2b"]])
def test_a_manifest_cannot_invent_a_size(folder: Path, stand_in: object) -> None:
    (folder / "manifest.json").write_text(json.dumps({"stand_in_for": stand_in, "files": {}}))
    assert stand_in_for(folder) is None
    refused(folder, r"1 layers of 8 are not Gemma 2 2b \(26 of 2304\); put the checkpoint in its own slot")


def test_links_into_the_hubs_own_cache_are_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    repository = tmp_path_factory.mktemp("models--google--gemma-2-2b-it")
    snapshot = repository / "snapshots" / "0123abc"
    shutil.copytree(folder, snapshot)
    (repository / "blobs").mkdir()
    shutil.move(snapshot / "a.safetensors", repository / "blobs" / "ff00")
    (snapshot / "a.safetensors").symlink_to("../../blobs/ff00")
    assert open_checkpoint(snapshot, Size.B2).num_parameters == count_parameters(folder)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A folder as large as the real 2B: sparse, so that it costs nothing."""
    (tmp_path / "config.json").write_text(json.dumps(REAL_CONFIG))
    entries, end = entries_of(tensor_shapes(shape_of(Size.B2)))
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(entries, 0))
    os.truncate(path, path.stat().st_size + end)
    return tmp_path


def test_a_folder_of_the_real_2b_is_taken_as_one(real: Path) -> None:
    checkpoint = open_checkpoint(real, Size.B2)
    assert (checkpoint.num_parameters, checkpoint.stand_in) == (2_614_341_888, False)
    refused(real, r"26 layers of 2304 are not Gemma 2 27b \(46 of 4608\)", Size.B27)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("query_pre_attn_scalar", 224),
        ("sliding_window", None),
        ("attn_logit_softcapping", None),
        ("final_logit_softcapping", 50.0),
    ],
)
def test_a_number_that_changes_every_answer_is_refused(real: Path, name: str, value: object) -> None:
    (real / "config.json").write_text(json.dumps({**REAL_CONFIG, name: value}))
    refused(real, f"{name} is {value}, Gemma 2 2b has .*; correct the file")


def test_the_real_configuration_here_is_the_one_of_the_facts() -> None:
    assert REAL_CONFIG["query_pre_attn_scalar"] == SIZES[Size.B2].query_pre_attn_scalar


HEADER_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["BF16", "F32"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
HOSTILE_ENTRIES = st.dictionaries(
    st.text(max_size=8),
    st.fixed_dictionaries({}, optional={"dtype": HEADER_VALUES, "shape": HEADER_VALUES, "data_offsets": HEADER_VALUES})
    | HEADER_VALUES,
    max_size=3,
)
QUIET = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def only_checkpoint_errors(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        entries = list(read_header(path))
    except CheckpointError as error:
        str(error).encode()  # fit to be logged
    else:
        assert all(8 <= entry.start <= entry.end <= len(content) for entry in entries)


@given(content=st.binary(max_size=64))
@example(content=b"")
@example(content=(2**63).to_bytes(8, "little"))
@example(content=(100_000).to_bytes(8, "little") + b"[" * 100_000)
@QUIET
def test_random_bytes_never_raise_anything_else(tmp_path: Path, content: bytes) -> None:
    only_checkpoint_errors(tmp_path / "x.safetensors", content)


@given(entries=HOSTILE_ENTRIES, data_bytes=st.integers(0, 16))
@example(entries={"a": {"dtype": "BF16", "shape": ["a", 10**12], "data_offsets": [0, 2]}}, data_bytes=2)
@example(entries={"a": {"dtype": "BF16", "shape": [10**12, "a"], "data_offsets": [0, 2]}}, data_bytes=2)
@example(entries={"a": {"dtype": "BF16", "shape": [2**62] * 8, "data_offsets": [0, 2]}}, data_bytes=2)
@example(entries={"a": {"dtype": "BF16", "shape": [1], "data_offsets": [2, 0]}}, data_bytes=2)
@example(entries={"a": {"dtype": ["BF16"], "shape": [1], "data_offsets": [0, 2]}}, data_bytes=2)
@example(entries={"\ud800": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 2]}}, data_bytes=2)
@example(entries={"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, "\ud800"]}}, data_bytes=2)
@example(entries={"a": {"dtype": "BF16", "shape": [4], "data_offsets": [2**62, 2**62 + 8]}}, data_bytes=8)
@QUIET
def test_a_hostile_header_never_raises_anything_else(tmp_path: Path, entries: Entry, data_bytes: int) -> None:
    only_checkpoint_errors(tmp_path / "x.safetensors", safetensors(entries, data_bytes))


@given(data=st.data())
@QUIET
def test_a_file_cut_anywhere_never_raises_anything_else_and_is_never_taken(folder: Path, data: st.DataObject) -> None:
    whole = (folder / "b.safetensors").read_bytes()
    try:
        for path in weight_files(folder)[1:]:
            cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
            path.write_bytes(cut)
            with pytest.raises(CheckpointError):
                open_checkpoint(folder, Size.B2)
    finally:
        (folder / "b.safetensors").write_bytes(whole)


@given(content=st.binary(max_size=40) | HEADER_VALUES.map(lambda value: json.dumps(value).encode()))
@example(content=b"[" * 100_000)
@example(content=b'{"weight_map": {"a": "\\u0000"}}')
@QUIET
def test_random_json_files_never_raise_anything_else(folder: Path, content: bytes) -> None:
    for name in ("config.json", "model.safetensors.index.json", "manifest.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(CheckpointError):
            open_checkpoint(folder, Size.B2)
        (folder / name).write_bytes(whole)
    open_checkpoint(folder, Size.B2)
