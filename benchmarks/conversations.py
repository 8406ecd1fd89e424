"""The Mooncake conversation trace, thinned by whole conversations and scaled down to a small model."""

from pathlib import Path

from cluster.replay import Arrival
from cluster.trace_prompts import token_ids
from cluster.trace_shape import shorter_than, shrunk, sped_up, thinned_to
from cluster.traces import read_trace
from model.request import GenerationRequest, RequestId, SamplingParams


def load(
    path: Path, num_requests: int, block_tokens: int, seconds: float, max_prompt_tokens: int, seed: int
) -> list[Arrival]:
    """About so many requests within `seconds`, all turns of each conversation that was drawn.

    A block becomes `block_tokens` tokens, and answers shrink alike. One with a prompt that grows too long is left out.
    """
    whole = read_trace(path)
    fitting = shorter_than(shrunk(whole, block_tokens / whole[0].block_tokens), max_prompt_tokens)
    drawn = thinned_to(fitting, num_requests, seed)
    return [
        Arrival(
            each.at_s,
            GenerationRequest(
                RequestId(f"c{number}"),
                token_ids(number, each),
                SamplingParams(each.output_tokens, temperature=0.0, ignore_eos=True),
                timeout_s=300.0,
            ),
        )
        for number, each in enumerate(sped_up(drawn, max(1e-9, drawn[-1].at_s) / seconds))
    ]
