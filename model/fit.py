"""Whether a checkpoint will fit, and the settings to change where it does not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from model.capacity import BLOCK_TOKENS, LEAST_TOKENS, bytes_per_block
from model.checkpoint import Checkpoint, ModelShape
from model.config import Dtype, EngineConfig, Quantization, Size
from model.errors import CheckpointError
from model.memory import MemoryEstimate, degrees, estimate

_GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that is free: of each rank's own device, or of a host that all ranks share."""

    free_bytes: int
    shared: bool = False

    def of_rank(self, degree: int) -> int:
        """Bytes that one of so many ranks may take."""
        return self.free_bytes // degree if self.shared else self.free_bytes


def check_memory(
    checkpoint: Checkpoint, size: Size, degree: int, config: EngineConfig, free_bytes: int, shared: bool = False
) -> MemoryEstimate:
    """The estimate of a checkpoint about to be loaded; raises `CheckpointError` with remedies when it cannot fit.

    `free_bytes` are those of each rank's own device, or, `shared`, of the host that all ranks are on.
    """
    room = Room(free_bytes, shared)
    need = estimate(checkpoint.shape, degree, config)
    if need.total_bytes > room.of_rank(degree):
        what = f"{size} ({checkpoint.name}) in {_precision(config)} at tensor_parallel {degree}"
        check_fits(what, need, room.of_rank(degree), remedies(checkpoint.shape, degree, config, room))
    return need


def check_fits(what: str, need: MemoryEstimate, available_bytes: int, cures: tuple[str, ...] = ()) -> None:
    """Raise `CheckpointError` with the cures, best first, when the estimate is above what a rank may take."""
    if need.total_bytes > available_bytes:
        raise CheckpointError(
            f"{what} needs {need.total_bytes / _GB:.1f} GB on each rank ({need.weight_bytes / _GB:.1f} weights, "
            f"{need.kv_bytes / _GB:.1f} keys and values, {need.workspace_bytes / _GB:.1f} workspace), "
            f"{available_bytes / _GB:.1f} GB are there: " + ("; ".join(cures) or "use a larger device")
        )


def remedies(shape: ModelShape, degree: int, config: EngineConfig, room: Room) -> tuple[str, ...]:
    """Settings that would make it fit, those that cost no quality first; a pair only where no single one does."""
    now = _Choice("", degree, config)
    single = [
        *_first(_higher(shape, now), shape, room),
        *_first(_narrower(now), shape, room),
        *_first(_quantized(now), shape, room),
        *_fewer_tokens(shape, now, room),
    ]
    if single:
        return tuple(single)
    pairs = (pair for smaller in (*_narrower(now), *_quantized(now)) for pair in _higher(shape, smaller))
    return tuple(_first(pairs, shape, room))


@dataclass(frozen=True, slots=True)
class _Choice:
    """Other settings, and what to change for them."""

    words: str
    degree: int
    config: EngineConfig

    def engine(self, **change: Any) -> "_Choice":
        """With one of the engine's settings changed."""
        words = [f"engine.{name} {value}" for name, value in change.items()]
        return _Choice(_and(self.words, *words), self.degree, self.config.model_copy(update=change))

    def split(self, degree: int) -> "_Choice":
        """At another degree."""
        return _Choice(_and(self.words, f"tensor_parallel {degree}"), degree, self.config)


def _higher(shape: ModelShape, now: _Choice) -> Iterator[_Choice]:
    return (now.split(degree) for degree in degrees(shape) if degree > now.degree)


def _narrower(now: _Choice) -> Iterator[_Choice]:
    if now.config.dtype is Dtype.FP32:
        yield now.engine(dtype=Dtype.BF16)


def _quantized(now: _Choice) -> Iterator[_Choice]:
    """8 bits before 4, since they lose less."""
    if now.config.quantization is None:
        yield now.engine(quantization=Quantization.INT8)
    if now.config.quantization is not Quantization.INT4:
        yield now.engine(quantization=Quantization.INT4)


def _first(choices: Iterator[_Choice], shape: ModelShape, room: Room) -> list[str]:
    """The first that fits, in words; one at most."""
    for choice in choices:
        total = estimate(shape, choice.degree, choice.config).total_bytes
        if total <= room.of_rank(choice.degree):
            return [f"set {choice.words} ({total / _GB:.1f} GB{' each' if choice.degree > 1 else ''})"]
    return []


def _fewer_tokens(shape: ModelShape, now: _Choice, room: Room) -> list[str]:
    """As many as fit, by the setting that decides it; none where they would be too few to be of use."""
    empty = now.config.model_copy(update={"kv_tokens": 0, "kv_memory_gb": None})
    left = room.of_rank(now.degree) - estimate(shape, now.degree, empty).total_bytes
    pair = 2 * bytes_per_block(shape, now.degree, now.config.dtype)  # a token has a place in a block of either kind
    tokens = left // pair * BLOCK_TOKENS
    if tokens <= LEAST_TOKENS:  # with a block to spare, for a number of whole MB
        return []
    if now.config.kv_memory_gb is None:
        return [f"lower engine.kv_tokens to {tokens}"]
    whole_mb = left // 10**6 / 1000
    return (
        [f"lower engine.kv_memory_gb to {whole_mb:g}"] if whole_mb * _GB >= LEAST_TOKENS // BLOCK_TOKENS * pair else []
    )


def _and(*words: str) -> str:
    return " and ".join(word for word in words if word)


def _precision(config: EngineConfig) -> str:
    return f"{config.dtype} with {config.quantization} weights" if config.quantization else str(config.dtype)
