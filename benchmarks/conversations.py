"""The Mooncake conversation trace, thinned by whole conversations and scaled down to a small model."""

from pathlib import Path

from cluster.trace import TraceRequest
from cluster.trace_prompts import token_ids
from cluster.trace_shape import shorter_than, shrunk, sped_up, thinned_to
from cluster.traces import read_trace
from model.request import GenerationRequest, RequestId, SamplingParams


def load(
    path: Path, num_requests: int, block_tokens: int, seconds: float, max_prompt_tokens: int, seed: int
) -> list[TraceRequest]:
    """About so many requests within `seconds`, all turns of each conversation that was drawn.

    A block becomes `block_tokens` tokens, and answers shrink alike. One with a prompt that grows too long is left out.
    """
    whole = read_trace(path)
    fitting = shorter_than(shrunk(whole, block_tokens / whole[0].block_tokens), max_prompt_tokens)
    drawn = thinned_to(fitting, num_requests, seed)
    return sped_up(drawn, max(1e-9, drawn[-1].at_s) / seconds)


def request_of(number: int, asked: TraceRequest, timeout_s: float = 300.0) -> GenerationRequest:
    """Its token ids, and an answer exactly as long as the trace's."""
    sampling = SamplingParams(asked.output_tokens, temperature=0.0, ignore_eos=True)
    return GenerationRequest(RequestId(f"c{number}"), token_ids(number, asked), sampling, timeout_s)
