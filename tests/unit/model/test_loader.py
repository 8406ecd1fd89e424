"""A rank's weights: read by the slice, all ranks' parts the whole, and no more memory than is packed."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Gemma2Config

from model.checkpoint import tensor_shapes
from model.config import Dtype
from model.errors import CheckpointError
from model.gemma2 import Gemma2
from model.linear import Weight
from model.loader import Loader
from model.memory import rank_shapes, split_dimension
from model.plain import PlainOps
from model.shapes import model_shape
from model.tensors import FileTensors, RandomTensors
from model.world import World

CONFIG = Gemma2Config(
    vocab_size=512, hidden_size=320, intermediate_size=448, num_hidden_layers=2, num_attention_heads=8,
    num_key_value_heads=4, head_dim=32, query_pre_attn_scalar=36, sliding_window=64, max_position_embeddings=128,
)  # fmt: skip
SHAPES = tensor_shapes(model_shape(CONFIG))


def on_paper(module: nn.Module, world: World, dtype: torch.dtype) -> nn.Module:
    """What DeepSpeed makes of the module, by the rule that test_shapes.py holds against DeepSpeed itself."""
    split: Any = module
    split.lm_head = nn.Linear(1, 1, bias=False, device="meta")  # no longer the embedding
    for name, shape in rank_shapes(model_shape(CONFIG), world.size, world.rank).items():
        part = nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"))
        setattr(split.get_submodule(name.removesuffix(".weight")), "weight", part)  # noqa: B010
    return module


def loaded(tensors: Any, rank: int = 0, degree: int = 1, config: Gemma2Config = CONFIG) -> Gemma2:
    return Loader(config, tensors, PlainOps(), Dtype.FP32, None, World(rank, degree), split=on_paper).load()


def a_file(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    tensors = {name: torch.randn(shape).bfloat16() for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return tensors


def test_what_is_read_by_the_slice_is_the_whole(tmp_path: Path) -> None:
    whole = a_file(tmp_path, SHAPES)
    with FileTensors(tmp_path) as tensors:
        assert tensors.names() == set(SHAPES)
        for name, tensor in whole.items():
            assert tensors.shape(name) == tuple(tensor.shape)
            assert torch.equal(tensors.read(name, slice(0, len(tensor))), tensor)
            assert torch.equal(tensors.read(name, slice(16, 96)), tensor[16:96])
            if tensor.dim() == 2:
                assert torch.equal(tensors.read(name, slice(3, 77), slice(64, 128)), tensor[3:77, 64:128])


def test_a_checkpoint_of_several_files(tmp_path: Path) -> None:
    whole = a_file(tmp_path, SHAPES)
    names = sorted(whole)
    (tmp_path / "model.safetensors").unlink()
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: whole[name] for name in held}, tmp_path / file)
    index = {name: file for file, held in parts.items() for name in held}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with FileTensors(tmp_path) as tensors:
        assert all(torch.equal(tensors.read(name, slice(0, len(whole[name]))), whole[name]) for name in names)


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_the_ranks_parts_joined_are_the_whole(tmp_path: Path, degree: int) -> None:
    """320 inputs of the head are five grains: two ranks have three and two, four have two, one, one and one."""
    whole = a_file(tmp_path, SHAPES)
    with FileTensors(tmp_path) as tensors:
        ranks = [loaded(tensors, rank, degree) for rank in range(degree)]
    for index, layers in enumerate(zip(*(rank.layers for rank in ranks), strict=True)):
        for name in layers[0].linears():
            full = f"model.layers.{index}.{name}.weight"
            parts = [layer.linears()[name] for layer in layers]
            dimension = split_dimension(full)
            assert dimension is not None
            assert joined(parts, dimension).equal(whole[full].float())
            assert [part.reduced for part in parts] == [dimension == 1 and degree > 1] * degree
        for layer in layers:
            assert layer.before_mlp.equal(whole[f"model.layers.{index}.pre_feedforward_layernorm.weight"].float())
    embedding = whole["model.embed_tokens.weight"].float()
    assert all(rank.embedding.data.equal(embedding) for rank in ranks)
    assert joined([rank.head for rank in ranks], 1).equal(embedding)
    for rank in ranks:
        share = slice(rank.head_start, rank.head_start + rank.head.width)
        assert rank.head.data.equal(embedding[:, share])
        assert rank.kv_heads * degree == CONFIG.num_key_value_heads
    assert (ranks[0].head is ranks[0].embedding) == (degree == 1)


def joined(parts: list[Weight], dimension: int) -> torch.Tensor:
    return torch.cat([part.data for part in parts], dimension)


def test_a_split_other_than_deepspeeds_is_noticed() -> None:
    def unlike(module: nn.Module, world: World, dtype: torch.dtype) -> nn.Module:
        on_paper(module, World(1 - world.rank, 2), dtype)  # 448 are seven grains: four and three
        return module

    loader = Loader(CONFIG, RandomTensors(SHAPES), PlainOps(), Dtype.FP32, None, World(0, 2), split=unlike)
    with pytest.raises(
        CheckpointError, match=r"layers.0.mlp.gate_proj: DeepSpeed holds \(192, 320\) of it here, \(256"
    ):
        loader.load()


NORM, Q = "model.norm.weight", "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({name: shape for name, shape in SHAPES.items() if name != Q}, rf"1 tensors \({Q}\) are missing"),
        ({name: shape for name, shape in SHAPES.items() if "mlp" not in name}, r"6 tensors \(.*, .*, .*, …\) are miss"),
        (SHAPES | {"model.extra": (3,)}, r"1 tensors \(model.extra\) are not of this architecture"),
        (SHAPES | {Q: (512, 320)}, rf"{Q} has shape \(512, 320\), the config says \(256, 320\); download"),
        (SHAPES | {NORM: (319,)}, rf"{NORM} has shape \(319,\), the config says \(320,\)"),
    ],
)
def test_tensors_that_do_not_fit_the_config_are_named(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        loaded(RandomTensors(shapes))


def test_a_stored_head_is_the_tied_embedding_again() -> None:
    assert loaded(RandomTensors(SHAPES | {"lm_head.weight": (512, 320)})).vocabulary == 512


def test_random_numbers_depend_on_name_and_place_alone() -> None:
    shapes = {"a": (9000, 1000), "b": (9000, 1000), "n": (64,)}
    one, two = RandomTensors(shapes), RandomTensors(shapes)
    whole = one.read("a", slice(0, 9000))  # more than twice around the circle
    for rows in (slice(0, 256), slice(4000, 4300), slice(8190, 9000)):
        assert two.read("a", rows).equal(whole[rows])
        assert two.read("a", rows, slice(100, 700)).equal(whole[rows, 100:700])
    assert len({tuple(row) for row in whole[:, :3].tolist()}) == 9000
    assert not one.read("b", slice(0, 9)).equal(whole[:9])
    assert whole.std() == pytest.approx(0.02, rel=0.01)
    assert one.read("n", slice(0, 64)).eq(0).all()


# A process of its own, so that nothing freed before is used again, and watched from outside: a thread that watched from
# inside would keep the heap from shrinking.
LOAD = """
import sys
from pathlib import Path
from transformers import AutoConfig
from model.config import Dtype, Quantization
from model.loader import Loader
from model.shapes import meta_model
from model.starting import choose_ops, report
from model.tensors import FileTensors
from model.world import World
from tests.unit.model import test_loader

folder, precision, rank, degree = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config = test_loader.CONFIG = AutoConfig.from_pretrained(folder)
quantization = None if precision == "bf16" else Quantization(precision)
world = World(rank, degree)
ops, _ = choose_ops(1)
meta_model(config)
print("ready", flush=True)
sys.stdin.readline()
with FileTensors(folder) as tensors:
    model = Loader(config, tensors, ops, Dtype.BF16, quantization, world, split=test_loader.on_paper).load()
print(report(model, world).weight_bytes, flush=True)
sys.stdin.readline()
"""


def anonymous_bytes(pid: int) -> int:
    """What the process holds that is no file's."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 MB in bf16: a layer's matrices are larger than what is read at a time, as in the real ones."""
    folder = tmp_path_factory.mktemp("large")
    config = Gemma2Config(vocab_size=16_384, hidden_size=2048, intermediate_size=8192, num_hidden_layers=2,
                          num_attention_heads=8, num_key_value_heads=4, head_dim=256)  # fmt: skip
    config.architectures = ["Gemma2ForCausalLM"]
    config.save_pretrained(folder)
    shapes = tensor_shapes(model_shape(config))
    noise = RandomTensors(shapes)
    save_file(
        {name: noise.read(name, slice(0, shape[0])).bfloat16() for name, shape in shapes.items()},
        folder / "model.safetensors",
    )
    return folder


@pytest.mark.parametrize(
    ("precision", "rank", "degree"), [("bf16", 0, 1), ("int8", 0, 1), ("int4", 0, 1), ("int4", 1, 2)]
)
def test_loading_never_holds_more_than_a_fifth_above_what_is_packed(
    large: Path, precision: str, rank: int, degree: int
) -> None:
    """And a constant: the tables of the rotation, 8 MB, and half a million numbers as they are read, and in fp32."""
    command = [sys.executable, "-c", LOAD, str(large), precision, str(rank), str(degree)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, env=environment) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        before_bytes = peak_bytes = anonymous_bytes(child.pid)
        child.stdin.write(b"\n")
        while not select.select([child.stdout], [], [], 0.002)[0]:
            peak_bytes = max(peak_bytes, anonymous_bytes(child.pid))
        packed_bytes = int(child.stdout.readline())
        child.stdin.write(b"\n")
    grown_bytes = peak_bytes - before_bytes
    print(f"{precision}, rank {rank} of {degree}: {packed_bytes / 1e6:.0f} MB packed, {grown_bytes / 1e6:.0f} at most")
    assert packed_bytes > 50e6
    assert grown_bytes < 1.2 * packed_bytes + 16e6
