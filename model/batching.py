"""transformers' continuous batching, made as this engine needs it: soft-cap, samplers per request, ranks in step."""

import queue
import threading
from typing import Any, Final

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from model.attention import use_soft_cap
from model.config import STOP_IDS, EngineConfig
from model.greedy import use_greedy

_PAGE_TOKENS: Final = 32  # tokens of one layer's page; small, since toy prompts are short
_RANK_SILENCE_S: Final = 60.0  # a rank that is silent for so long inside a step counts as lost


def make_manager(model: Any, config: EngineConfig) -> Any:
    """A manager that is not started yet; on every rank of a group the same."""
    use_soft_cap()
    # A per-request sampler exists only where the defaults here are not neutral; each request gives its own.
    sampling = GenerationConfig(
        do_sample=True, temperature=0.5, top_k=2, top_p=0.5, eos_token_id=list(STOP_IDS), pad_token_id=0
    )
    manager = model.init_continuous_batching(
        generation_config=sampling,
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=_PAGE_TOKENS,
            num_blocks=config.kv_tokens // _PAGE_TOKENS,
            max_batch_tokens=config.max_step_tokens,
            max_requests_per_batch=config.max_running,
            per_request_processors=True,
            allow_block_sharing=False,
            use_async_batching=False,
            cpu_group_timeout=_RANK_SILENCE_S,
            auto_switch_to_flash=False,  # it may fetch kernels from the hub, and is not the oracle's arithmetic
        ),
    )
    use_greedy(manager.logit_processor)
    manager.output_router.output_queue = _Nowhere()
    if manager.distributed_helper.tp_size > 1:
        _keep_in_step(manager)
    return manager


class _Nowhere(queue.Queue[Any]):
    """Takes what a request just aborted still gets; nobody would ever fetch it."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Drop it."""


class _Awake(threading.Event):
    """An event that nobody waits for."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        return True


def _keep_in_step(manager: Any) -> None:
    """Followers wait for rank 0 inside the all-reduce, and take its tokens.

    An idle loop sleeps 0.1 s between two all-reduces. Rank 0 is woken by a request; a follower that sleeps would hold
    it up for the rest of its nap, so followers do not sleep: they block in the all-reduce until rank 0 is there.

    Every rank samples for itself, from logits and random numbers that are equal only as long as nothing disturbs them.
    Ranks that disagree on a token would mix two texts without a sign, so rank 0's tokens are binding.
    """
    if not manager.is_tp_driver:
        manager._wake_up_loop = _Awake()
    create = manager._create_batch_processor

    def create_in_step() -> Any:
        processor = create()
        runner = processor.model_runner
        sample = runner._sample

        def sample_in_step(scores: torch.Tensor, output_ids: torch.Tensor) -> None:
            sample(scores, output_ids)  # scores [1, B, V] -> output_ids [1, ≥ B]
            manager.distributed_helper.tp_broadcast_from_rank_0(output_ids)

        runner._sample = sample_in_step
        return processor

    manager._create_batch_processor = create_in_step
