"""How fast one replica of a size is: seconds of a step by what is in it, room for requests, and what a start takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.config import Quantization, Size


@dataclass(frozen=True, slots=True)
class Speed:
    """One replica of a size at a degree and a precision, on one kind of device.

    A step takes `step_s` whatever is in it (the weights are read once), and more for each token of a prompt, for each
    sequence that decodes, and for each token of context that a decoding sequence looks at. This is the roofline model
    (S. Williams et al., Communications of the ACM 52(4), 2009) with its two roofs added, not compared: an upper bound.
    """

    size: Size
    device: str  # kind, such as `h100-80gb`, or `cpu`
    degree: int  # devices of one replica, which are its ranks
    quantization: Quantization | None  # None: the weights' own dtype
    step_s: float
    prefill_s_per_token: float
    decode_s_per_sequence: float
    decode_s_per_context_token: float
    slots: int  # requests that decode at once
    kv_tokens: int  # tokens whose keys and values fit at once
    max_step_tokens: int
    cold_start_s: Mapping[str, float] = field(
        default_factory=dict
    )  # part (node, image, weights, warm, gate) -> seconds

    def seconds(self, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        """Of one step with so many prompt tokens, and so many sequences that decode over so many tokens altogether."""
        work_s = prompt_tokens * self.prefill_s_per_token + sequences * self.decode_s_per_sequence
        return self.step_s + work_s + context_tokens * self.decode_s_per_context_token

    @property
    def start_s(self) -> float:
        """From the wish for a replica to its first request."""
        return sum(self.cold_start_s.values())
