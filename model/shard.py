"""Everything that DeepSpeed tensor parallelism needs to know.

AutoTP splits q, k, v, gate and up along their outputs, o and down along their inputs, and the head along its input;
embedding and norms are whole on every rank. It leaves `num_heads` and the like in place, so head counts are read from
projected shapes (transformers' attention does).
"""

import datetime
import os
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from model.contract import RankReport
from model.op_cache import load_op, prepare_environment
from model.world import World

_JOIN_TIMEOUT_S: Final = 120
_SHOWN: Final = ("layers.0.", "lm_head", "embed_tokens")


def join(world: World) -> None:
    """Meet the other ranks: gloo on CPU, nccl on GPU. Blocks until all are there, at most two minutes.

    The environment is set before DeepSpeed is imported, since it reads it then. Without `LOCAL_SIZE` its shared-memory
    all-reduce crashes the process.
    """
    cuda = torch.cuda.is_available()
    os.environ.update(
        RANK=str(world.rank),
        # Ray shows each rank its own GPU only, as device 0, and DeepSpeed takes LOCAL_RANK for the device.
        LOCAL_RANK="0" if cuda else str(world.rank),
        WORLD_SIZE=str(world.size),
        LOCAL_SIZE=str(world.size),
        MASTER_ADDR=world.master_address,
        MASTER_PORT=str(world.master_port),
        DS_ACCELERATOR="cuda" if cuda else "cpu",
        DS_LOG_LEVEL="ERROR",
    )
    if not cuda:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all ranks share this host; listen to nobody else
    prepare_environment()
    import deepspeed

    if not cuda:
        load_op()
        _forget_buffer(world)  # a group that died while it joined may have left one under this name
    deepspeed.init_distributed(
        "nccl" if cuda else "gloo", timeout=datetime.timedelta(seconds=_JOIN_TIMEOUT_S), verbose=False
    )
    if not cuda:
        torch.distributed.barrier()  # all ranks have opened all buffers
        _forget_buffer(world)


def _forget_buffer(world: World) -> None:
    """Remove the name of this rank's all-reduce buffer; who has opened it keeps it.

    DeepSpeed never removes it: each start would cost the host 66 MiB of memory per rank until it reboots.
    """
    owner = f"{os.getuid()}_{world.master_address}_{world.master_port}_{world.rank}"
    Path(f"/dev/shm/deepspeed_allreduce_buffer_{owner}").unlink(missing_ok=True)  # noqa: S108 - where shm_open puts it


def shard(model: nn.Module, world: World, dtype: torch.dtype) -> nn.Module:
    """The model with this rank's parts of its linears; other parameters stay whole.

    Only the parts are copied: with weights mapped from a file, what another rank keeps is never read into this one.
    """
    import deepspeed
    from torch.distributed.device_mesh import DeviceMesh

    engine = deepspeed.init_inference(
        model, tensor_parallel={"tp_size": world.size}, dtype=dtype, replace_with_kernel_inject=False
    )
    sharded: Any = engine.module
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # transformers' continuous batching finds its group here, and splits the KV cache accordingly.
    sharded._device_mesh = DeviceMesh(device, list(range(world.size)), mesh_dim_names=("tp",))
    module: nn.Module = sharded
    return module


def report(model: nn.Module, world: World) -> RankReport:
    """What this rank holds; shapes of the first layer, the embedding and the head. Tied weights count once."""
    unique = {parameter.data_ptr(): parameter for parameter in model.parameters()}
    shapes = {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if any(part in name for part in _SHOWN)
    }
    weight_bytes = sum(parameter.numel() * parameter.element_size() for parameter in unique.values())
    return RankReport(world.rank, os.getpid(), weight_bytes, shapes)
