"""The golden-logit gate: a replica that does not reproduce its checkpoint's logits must not answer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from model.config import EngineConfig
from model.errors import CheckpointError
from model.linear import Kind, kind_of

GOLDEN_FILE: Final = "golden_logits.json"
# fp32 on another order of summation; bf16 keeps 8 bits, and errors add up over the layers. Quantized weights differ
# from the oracle's by what they lost: on the stand-ins at most 0.071 in int8 and 0.66 in int4 (docs/precision.md). Real
# weights have outliers that these have not, so eight times as much passes.
TOLERANCE: Final = {Kind.FP32: 1e-3, Kind.BF16: 1.0, Kind.INT8: 0.6, Kind.INT4: 5.0}


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """The largest logits at one position of a prompt, as the oracle computed them."""

    ids: tuple[int, ...]
    position: int
    top_ids: tuple[int, ...]
    top_logits: tuple[float, ...]

    def difference(self, logits: torch.Tensor) -> float:
        """Largest difference to a row of logits [V]."""
        expected = torch.tensor(self.top_logits, device=logits.device)
        return float((logits[list(self.top_ids)] - expected).abs().max())


def golden_rows(folder: Path) -> list[GoldenRow]:
    """The rows stored beside a checkpoint; empty when there are none."""
    path = folder / GOLDEN_FILE
    if not path.is_file():
        return []
    try:
        prompts = json.loads(path.read_text(encoding="utf-8"))["prompts"]
        return [
            GoldenRow(tuple(prompt["ids"]), row["position"], tuple(row["top_ids"]), tuple(row["top_logits"]))
            for prompt in prompts
            for row in prompt["positions"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is no file of golden logits ({error!r}); download it again") from error


def accept(differences: list[float], folder: Path, config: EngineConfig) -> float | None:
    """The largest difference, or `CheckpointError` when it is more than rounding explains."""
    if not differences:
        return None
    worst = max(differences, key=lambda difference: float("inf") if difference != difference else difference)
    kind = kind_of(config.dtype, config.quantization)
    allowed = TOLERANCE[kind]
    if not worst <= allowed:  # NaN fails too
        raise CheckpointError(
            f"{folder / GOLDEN_FILE}: logits differ by {worst:.3g}, {allowed:.3g} is allowed in {kind.name.lower()}; "
            "a shard is wrong or a kernel is broken, the replica stays out of traffic"
        )
    return worst
