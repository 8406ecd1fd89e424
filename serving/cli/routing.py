"""`gemmule routing …` and `gemmule evaluate-routing`: profiles from labelled prompts, and what they are worth."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cluster.routing.choice import best
from cluster.routing.features import Text
from cluster.routing.fit import MAX_PROMPTS, fit
from cluster.routing.frontier import Frontier, cost_at, frontier, hull
from cluster.routing.labels import Labels, LabelsError, read_labels
from cluster.routing.predictor import Predictor
from cluster.routing.profile import Profile, ProfileError, read_profile

_SHOWN: Final = (0.80, 0.90, 0.95, 0.98, 1.0)


class PromptsError(ValueError):
    """What is wrong with a file of prompts, and in which line."""


@dataclass(frozen=True, slots=True)
class AskedPrompt:
    """One line of a file of prompts."""

    id: str
    text: str
    prompt_tokens: int


def calibrate(data: Path, out: Path, about: str, as_json: bool, console: Console) -> int:
    """Fit and save; 2 when the labels are no good."""
    errors = Console(stderr=True)
    labels = _labels(data, errors)
    if labels is None:
        return 2
    return fitted(labels, out, about, as_json, console)


def fitted(labels: Labels, out: Path, about: str, as_json: bool, console: Console) -> int:
    """Fit, save and show what was promised."""
    errors = Console(stderr=True)
    if len(labels) > MAX_PROMPTS:
        errors.print(f"[yellow]![/] {MAX_PROMPTS} of {len(labels)} prompts are drawn and fitted on", highlight=False)
    with errors.status("reading") as status:
        profile = fit(labels, about, lambda words: status.update(words))
    profile.save(out)
    if as_json:
        console.print_json(json.dumps(_summary(profile)))
    else:
        console.print(_promises(profile))
        console.print(f"profile written to {out}", highlight=False)
    return 0


def decide(profile_path: Path, quality: float, prompts: Path, out: Path) -> int:
    """A size for every prompt of a file; 2 when profile or prompts are no good."""
    try:
        predictor = Predictor(read_profile(profile_path))
        rate = predictor.profile.exchange_rate(quality)
        lines = [json.dumps(_decision(predictor, rate, prompt)) for prompt in _read_prompts(prompts)]
        out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except (ProfileError, PromptsError, OSError) as error:
        Console(stderr=True).print(f"[red]✗[/] {error}", highlight=False, soft_wrap=True)
        return 2
    return 0


def evaluate_routing(data: Path, splits: int, seed: int, as_json: bool, plot: Path | None, console: Console) -> int:
    """The frontier of cost and quality on held-out prompts."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    errors = Console(stderr=True)
    labels = _labels(data, errors)
    if labels is None:
        return 2
    with Progress(*columns, console=errors) as progress:
        bar = progress.add_task("fitting, and choosing for other prompts", total=splits)
        found = frontier(labels, splits, seed, lambda done: progress.update(bar, completed=done))
    if as_json:
        console.print_json(json.dumps(asdict(found)))
    else:
        console.print(_frontier_table(found))
    if plot is not None:
        _plot(found, plot)
        console.print(f"plot written to {plot}", highlight=False)
    return 0


def _labels(path: Path, errors: Console) -> Labels | None:
    """None, and the reason said, when the file is no good."""
    try:
        return read_labels(path)
    except LabelsError as error:
        errors.print(f"[red]✗[/] {error}", highlight=False, soft_wrap=True)
        return None


def _decision(predictor: Predictor, rate: float, prompt: AskedPrompt) -> dict[str, Any]:
    prediction = predictor.predict(Text(prompt.text, prompt.prompt_tokens))
    offer = best(predictor.offers(prediction, prompt.prompt_tokens), rate)
    quality = {size: round(value, 4) for size, value in prediction.quality.items()}
    tokens = {size: round(value) for size, value in prediction.output_tokens.items()}
    return {"id": prompt.id, "size": offer.size, "quality": quality, "output_tokens": tokens}


def _read_prompts(path: Path) -> Iterator[AskedPrompt]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield AskedPrompt(row["id"], str(row["prompt"]), int(row["prompt_tokens"]))
        except (ValueError, TypeError, KeyError) as error:
            needs = 'needs {"id", "prompt", "prompt_tokens"}'
            raise PromptsError(f"{path}: line {number}: {needs} ({type(error).__name__}: {error})") from None


def _summary(profile: Profile) -> dict[str, Any]:
    return profile.model_dump(mode="json", exclude={"fitted"})


def _promises(profile: Profile) -> Table:
    table = Table(title=f"{profile.data.prompts} prompts, each predicted by a fit on the others", box=None)
    for name in ("promised", "kept", "95 % interval", "cost", *profile.sizes):
        table.add_column(name, justify="right")
    for promise in profile.promises:
        if promise.quality in _SHOWN:
            table.add_row(
                f"{promise.quality:.2f}", f"{promise.quality_share:.3f}", f"{promise.low:.2f}–{promise.high:.2f}",
                f"{promise.cost_share:.3f}", *(f"{promise.sizes[size]:.0%}" for size in profile.sizes),
            )  # fmt: skip
    errors = ", ".join(f"{size} {value:.3f}" for size, value in profile.calibration_error.items())
    table.caption = f"quality and cost relative to always {profile.largest}; calibration error {errors}"
    return table


def _frontier_table(found: Frontier) -> Table:
    table = Table(title=f"{found.splits} splits, {found.tested} prompts chosen for, none fitted on", box=None)
    for name in ("promised", "kept", "least kept", "cost", "± spread", "random mix", "threshold"):
        table.add_column(name, justify="right")
    for kept in found.kept:
        rivals = (cost_at(found.curves[name], kept.promised) for name in ("random mix", "threshold"))
        spread = (sum((cost - kept.mean_cost) ** 2 for cost in kept.cost) / len(kept.cost)) ** 0.5
        table.add_row(
            f"{kept.promised:.2f}", f"{kept.mean_quality:.3f}", f"{min(kept.quality):.3f}",
            f"{kept.mean_cost:.3f}", f"{spread:.3f}", *("–" if cost is None else f"{cost:.3f}" for cost in rivals),
        )  # fmt: skip
    (oracle,) = found.curves["oracle"]
    fixed = ", ".join(f"{size} {point.quality:.3f} at {point.cost:.3f}" for size, point in found.sizes.items())
    errors = ", ".join(f"{size} {value:.3f}" for size, value in found.calibration_error.items())
    perfect = f"perfect choice {oracle.quality:.3f} at {oracle.cost:.3f}"
    table.caption = f"always one size: {fixed}; {perfect}; calibration error {errors}"
    return table


def _plot(found: Frontier, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5), layout="constrained")
    for name, curve in found.curves.items():
        points = hull(curve) if name == "threshold" else sorted(curve, key=lambda point: point.cost)
        costs, qualities = [point.cost for point in points], [point.quality for point in points]
        axes.plot(costs, qualities, marker="*" if len(points) == 1 else None, label=name, markersize=12)
    for size, point in found.sizes.items():
        axes.scatter(point.cost, point.quality, color="black", zorder=3)
        axes.annotate(size, (point.cost, point.quality), xytext=(6, -12), textcoords="offset points")
    for kept in found.kept:
        axes.errorbar(
            kept.mean_cost, kept.mean_quality, fmt="o", color="tab:blue",
            xerr=[[kept.mean_cost - min(kept.cost)], [max(kept.cost) - kept.mean_cost]], capsize=3,
        )  # fmt: skip
    axes.set(xlabel="cost, always the largest size = 1", ylabel="right answers, the largest size's = 1", xlim=(0, 1.05))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
