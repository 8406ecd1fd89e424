"""The logits behind a served token, read where continuous batching makes them: with its paging, window and sharding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def logits_of(manager: Any, request_key: str) -> Iterator[list[torch.Tensor]]:
    """Collect logits [V] in fp32 for each step that gives this request a token, whatever else runs beside it."""
    rows: list[torch.Tensor] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        batch = manager.batch_processor.inputs_and_outputs.requests_in_batch
        served = [entry.state.request_id for entry in batch if entry.has_new_token]
        if request_key in served:
            rows.append(output.logits[0, served.index(request_key)].float().cpu().clone())

    hook = manager.model.register_forward_hook(keep)
    try:
        yield rows
    finally:
        hook.remove()
