"""The golden-logit gate: a replica that does not reproduce its checkpoint's logits must not answer."""

import json
from pathlib import Path
from typing import Any, Final

import torch

from model.config import Dtype
from model.errors import CheckpointError

GOLDEN_FILE: Final = "golden_logits.json"
# fp32 on another order of summation; bf16 keeps 8 bits, and errors add up over the layers.
TOLERANCE: Final = {Dtype.FP32: 1e-3, Dtype.BF16: 1.0}


def golden_difference(model: Any, folder: Path) -> float | None:
    """Largest difference to the stored logits, over all prompts and positions; None when none are stored.

    Runs on every rank at once: the forward pass is collective.
    """
    path = folder / GOLDEN_FILE
    if not path.is_file():
        return None
    golden = json.loads(path.read_text(encoding="utf-8"))
    worst = 0.0
    with torch.no_grad():
        for prompt in golden["prompts"]:
            ids = torch.tensor([prompt["ids"]], device=model.device)  # [1, T]
            logits = model(input_ids=ids, use_cache=False).logits[0].float()  # [T, V]
            for position in prompt["positions"]:
                expected = torch.tensor(position["top_logits"], device=logits.device)
                got = logits[position["position"], position["top_ids"]]
                worst = max(worst, float((got - expected).abs().max()))
    return worst


def check_golden(model: Any, folder: Path, dtype: Dtype) -> float | None:
    """The difference, or `CheckpointError` when it is more than rounding explains."""
    difference = golden_difference(model, folder)
    if difference is not None and not difference <= TOLERANCE[dtype]:  # NaN fails too
        raise CheckpointError(
            f"{folder / GOLDEN_FILE}: logits differ by {difference:.3g}, {TOLERANCE[dtype]:.3g} is allowed in {dtype}; "
            "a shard is wrong or a kernel is broken, the replica stays out of traffic"
        )
    return difference
