"""`gemmule routing calibrate --from-log`: a profile from sampled prompts that the running sizes answer and one scores.

Every size answers greedily; then the largest reads the answers of the others, token by token, without writing any.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.routing.agreement import MARGIN, Compared, Heard, closed, labels_of, regret
from cluster.routing.labels import MIN_ROWS, LabelsError
from model.config import CONTEXT_TOKENS, Size
from serving.cli.remote import Remote, RemoteError
from serving.cli.routing import fitted
from serving.traffic.store import Sampled, Store, TrafficError

_PATH: Final = "/v1/completions"
_MOST_FAILURES: Final = 5  # each was tried for seconds; then it is the cluster and not the prompt
_COMMON: Final = {"temperature": 0, "store": False}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command was told."""

    store: Path
    url: str
    limit: int | None
    concurrency: int
    margin: float | None


def calibrate_from_log(asked: Asked, out: Path, about: str, as_json: bool, console: Console) -> int:
    """Read, ask, score, fit; 2 when store or answers are no good, 1 when nobody answers. No text leaves the store."""
    errors = Console(stderr=True)
    margin = MARGIN if asked.margin is None else asked.margin
    try:
        prompts = _stored(asked)
        remote = Remote(asked.url, limit=asked.concurrency)
        sizes = _sizes(remote)
        compared = _compare_all(remote, sizes, prompts, asked.concurrency, errors, quiet=as_json)
        labels = labels_of(compared, sizes, margin)
    except (TrafficError, LabelsError) as error:
        errors.print(f"[red]✗[/] {error}", highlight=False, soft_wrap=True)
        return 2
    except RemoteError as error:
        errors.print(f"[red]✗[/] {error}", highlight=False, soft_wrap=True)
        return 1
    said = f"own traffic, {_dates(prompts)}; not graded: what the {sizes[-1]} would have said within {margin} nats"
    return fitted(labels, out, f"{about}; {said}" if about else said, as_json, console)


def _stored(asked: Asked) -> list[Sampled]:
    store = Store.open_existing(asked.store)
    try:
        prompts = list(store.read(asked.limit))
    finally:
        store.close()
    if len(prompts) < MIN_ROWS:
        raise LabelsError(
            f"{asked.store}: {len(prompts)} different prompts are too few; at least {MIN_ROWS} are needed"
        )
    return prompts


def _sizes(remote: Remote) -> tuple[Size, ...]:
    """Those served, from the smallest on."""
    served = {size["size"] for size in remote.get("/v1/status")["sizes"]}
    sizes = tuple(size for size in Size if size in served)
    if len(sizes) < 2:
        raise LabelsError(f"{remote.url} serves {len(sizes)} size; there is nothing to choose from")
    return sizes


def _compare_all(
    remote: Remote, sizes: tuple[Size, ...], prompts: Sequence[Sampled], concurrency: int, errors: Console, quiet: bool
) -> list[Compared]:
    """Without the few that could not be answered; more than a few raise `RemoteError`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    compared: list[Compared] = []
    failures: list[RemoteError] = []
    with Progress(*columns, console=errors, disable=quiet) as progress, ThreadPoolExecutor(concurrency) as pool:
        bar = progress.add_task(f"answered by {', '.join(sizes)}, scored by {sizes[-1]}", total=len(prompts))
        jobs = [pool.submit(_compare, remote, sizes, prompt) for prompt in prompts]
        try:
            for job in jobs:
                try:
                    compared.append(job.result())
                except RemoteError as error:
                    failures.append(error)
                    if len(failures) > _MOST_FAILURES:
                        raise
                progress.advance(bar)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # what is left of them when this ends early
    if failures:
        errors.print(f"[yellow]![/] {len(failures)} prompts left out: {failures[-1]}", highlight=False, soft_wrap=True)
    return compared


def _compare(remote: Remote, sizes: tuple[Size, ...], prompt: Sampled) -> Compared:
    """Every size's answer to one prompt; the same tokens as the largest wrote need not be read to it."""
    answers = {size: _answer(remote, size, prompt) for size in sizes}
    own = answers[sizes[-1]]
    heard = {
        size: Heard(
            answer.output_tokens,
            answer.ended,
            0.0 if answer.token_ids == own.token_ids else _regret(remote, sizes[-1], prompt, answer.token_ids),
        )
        for size, answer in answers.items()
    }
    return Compared(prompt.text, len(prompt.prompt_token_ids), prompt.model, heard)


@dataclass(frozen=True, slots=True)
class _Answer:
    token_ids: tuple[int, ...]  # the end of the turn among them
    ended: bool
    output_tokens: int


def _answer(remote: Remote, size: Size, prompt: Sampled) -> _Answer:
    body = {
        **_COMMON, "model": size, "prompt_token_ids": prompt.prompt_token_ids, "max_tokens": prompt.max_tokens,
        "return_token_ids": True,
    }  # fmt: skip
    answer = remote.post_patiently(_PATH, body)
    choice = answer["choices"][0]
    ended = choice["finish_reason"] == "stop"
    return _Answer(closed(choice["token_ids"], ended), ended, answer["usage"]["completion_tokens"])


def _regret(remote: Remote, largest: Size, prompt: Sampled, token_ids: tuple[int, ...]) -> float:
    """As the largest size reads the answer; what would not fit into its context is left off."""
    asked = (*prompt.prompt_token_ids, *token_ids)[: CONTEXT_TOKENS - 1]
    body = {**_COMMON, "model": largest, "prompt_token_ids": asked, "max_tokens": 0, "echo": True, "logprobs": 1}
    scores: dict[str, Any] = remote.post_patiently(_PATH, body)["choices"][0]["logprobs"]
    begin = len(prompt.prompt_token_ids)
    return regret(scores["token_logprobs"][begin:], [max(top.values()) for top in scores["top_logprobs"][begin:]])


def _dates(prompts: Sequence[Sampled]) -> str:
    first, last = (
        datetime.fromtimestamp(pick(prompt.time_s for prompt in prompts), UTC).date().isoformat() for pick in (min, max)
    )
    return first if first == last else f"{first} to {last}"
