"""A validated ask -> what the engine is asked for, and what of its answer is shown."""

from dataclasses import dataclass, replace
from typing import Final

from model.errors import Code, Fault, InvalidRequestError
from model.prompt import Prompter
from model.request import GenerationRequest, Guide, GuideKind, RequestId, SamplingParams
from serving.ask import Ask, ChatAsk, TextAsk
from serving.guides import GuideForm, guide_of
from serving.prompting import Prompt, check_ids, draft_of, prompt_of
from serving.sampling import MAX_SEED, MIN_SEED
from serving.spelling import Ruler, Speller

_GREEDY_BELOW: Final = 1e-5  # dividing by less overflows fp32; the likeliest token wins long before
_GUIDES: Final = frozenset({"guide", *GuideForm.model_fields})
_SEEDS: Final = MAX_SEED - MIN_SEED + 1


@dataclass(frozen=True, slots=True)
class Plan:
    """One request of `num_choices` generations."""

    prompt: Prompt
    sampling: SamplingParams
    draft: tuple[int, ...]
    num_choices: int
    prompt_lookup: bool
    priority: int
    session: str  # "" for none
    echo: str | None  # the prompt's text, when it is shown in front of the answer
    silent: bool  # of the answer itself nothing is shown
    guide_field: str | None  # what asked for the guide
    tells_sizes: bool  # the answer says which size wrote what

    def request(self, request_id: RequestId, index: int, timeout_s: float) -> GenerationRequest:
        """That of one choice. Several have ids with a suffix, and seeds that count up."""
        return GenerationRequest(
            request_id if self.num_choices == 1 else RequestId(f"{request_id}-{index}"),
            self.prompt.token_ids,
            replace(self.sampling, seed=_seed(self.sampling.seed, index)),
            timeout_s,
            self.draft,
            self.prompt_lookup,
            self.priority,
            session=self.session,
        )

    def named(self, fault: Fault) -> Fault:
        """What the engine finds wrong with a guide, under the name that the client gave it.

        The engine knows what kind of guide it has and not which field asked for it.
        """
        if self.guide_field is None or fault.code is not Code.INVALID_REQUEST or fault.field not in _GUIDES:
            return fault
        message = f"{self.guide_field}: {fault.message.removeprefix(f'{fault.field}: ')}"
        reason = "invalid_value" if fault.reason == "invalid_guide" else fault.reason
        return replace(fault, field=self.guide_field, message=message, reason=reason)


async def plan_of(ask: Ask, prompter: Prompter, speller: Speller) -> Plan:
    """Encode and check what a form cannot see; raises `InvalidRequestError`."""
    check_ids("stop_token_ids", ask.stop_token_ids, prompter.vocabulary)
    bias = _bias(ask, prompter.vocabulary)
    prompt = await prompt_of(ask, prompter)
    asked = guide_of(ask)
    _check_min_tokens(ask, prompt)
    draft = await draft_of(ask, prompter)
    guesses = ask.max_cost is None  # wrong ones are paid for, and how many there will be is not known
    return Plan(
        prompt=prompt,
        sampling=_sampling(ask, prompt, bias, asked[1] if asked else None),
        draft=draft if guesses else (),
        num_choices=ask.n,
        prompt_lookup=ask.prompt_lookup and guesses,
        priority=ask.priority,
        session=ask.prompt_cache_key or "",
        echo=_echo(ask, prompt, speller),
        silent=ask.max_tokens == 0,
        guide_field=_path(*asked) if asked else None,
        tells_sizes=ask.include_sizes,
    )


def _sampling(ask: Ask, prompt: Prompt, bias: tuple[tuple[int, float], ...], guide: Guide | None) -> SamplingParams:
    """Engine's parameters; what means the likeliest token is spelled as greedy."""
    greedy = ask.temperature < _GREEDY_BELOW or ask.top_p == 0
    return SamplingParams(
        max_tokens=prompt.max_tokens,
        temperature=0.0 if greedy else ask.temperature,
        top_k=ask.top_k if ask.top_k is not None and ask.top_k > 0 else None,
        top_p=1.0 if greedy else ask.top_p,
        min_p=ask.min_p,
        presence_penalty=ask.presence_penalty,
        frequency_penalty=ask.frequency_penalty,
        repetition_penalty=ask.repetition_penalty,
        logit_bias=bias,
        min_tokens=ask.min_tokens,
        ignore_eos=ask.ignore_eos,
        stop=tuple(ask.stop),
        stop_token_ids=tuple(ask.stop_token_ids),
        seed=ask.seed,
        logprobs=ask.num_logprobs,
        prompt_logprobs=ask.num_logprobs if isinstance(ask, TextAsk) and ask.echo else None,
        guide=guide,
    )


def _bias(ask: Ask, vocabulary: int) -> tuple[tuple[int, float], ...]:
    for token_id in ask.logit_bias:
        if int(token_id) >= vocabulary:
            what = f"logit_bias: got id {token_id}, ids are 0 to {vocabulary - 1}; choose one of them"
            raise InvalidRequestError("invalid_value", "logit_bias", what)
    return tuple(sorted((int(token_id), bias) for token_id, bias in ask.logit_bias.items()))


def _check_min_tokens(ask: Ask, prompt: Prompt) -> None:
    most = prompt.max_tokens if ask.max_tokens is None else ask.max_tokens
    if ask.min_tokens > most:
        what = f"min_tokens: got {ask.min_tokens}, max_tokens is {most}; lower it or raise max_tokens"
        raise InvalidRequestError("invalid_value", "min_tokens", what)


def _echo(ask: Ask, prompt: Prompt, speller: Speller) -> str | None:
    if isinstance(ask, ChatAsk) or not ask.echo:
        return None
    return ask.text if ask.text is not None else Ruler(speller).text_of(prompt.token_ids)


def _path(field: str, guide: Guide) -> str:
    inside = field == "response_format" and guide.kind is GuideKind.JSON_SCHEMA
    return f"{field}.json_schema.schema" if inside else field


def _seed(seed: int | None, index: int) -> int | None:
    """Seed + index, from the least on again after the largest."""
    return None if seed is None else (seed - MIN_SEED + index) % _SEEDS + MIN_SEED
