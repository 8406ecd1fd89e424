"""The engine's side of one request: its tokens, how far they are computed, and where their keys and values lie."""

from dataclasses import dataclass, field

from model.request import GenerationRequest

NO_BLOCK = -1
"""In a window table: this block's tokens are out of every later token's sight, and it was given back."""


@dataclass(eq=False, slots=True)
class Sequence:
    """One request while it is in the engine. Only the scheduler changes it.

    Position p's keys and values lie in block `global_blocks[p // block_tokens]` for the layers that see everything,
    and in `window_blocks[p // block_tokens]` for those that see the last tokens only. Both are indices into one pool.
    """

    request: GenerationRequest
    number: int  # order of arrival
    arrival_s: float
    max_total_tokens: int  # prompt and answer together
    tokens: list[int] = field(default_factory=list)  # the prompt, then every confirmed token of the answer
    num_computed: int = 0  # leading tokens whose keys and values are in the cache
    global_blocks: list[int] = field(default_factory=list)
    window_blocks: list[int] = field(default_factory=list)
    draft: tuple[int, ...] = ()  # guesses for the next step, set by the engine before each plan
    cached_tokens: int = 0  # of the prompt, found in the prefix cache when it was first admitted
    preemptions: int = 0
    num_scored: int = 0  # leading prompt positions whose logits a committed step gave out, where the prompt is scored

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt_token_ids)

    @property
    def num_pending(self) -> int:
        """Confirmed tokens that are not computed yet; one while it decodes."""
        return len(self.tokens) - self.num_computed

    @property
    def num_output(self) -> int:
        """Confirmed tokens of the answer."""
        return len(self.tokens) - self.num_prompt
