"""What clients see: traffic, speed, errors, promises, cost."""

from typing import Final

from helm.dashboards.board import Board, Panel, Row, Values, now, once, quantile, rate, series, total
from model.errors import Code

BROKEN: Final = (Code.INTERNAL, Code.CHECKPOINT, Code.REPLICA_LOST)
"""What the service is to blame for."""
REFUSED: Final = (Code.OVERLOADED, Code.NOT_READY)
"""For lack of room, or of a replica."""
_REQUESTS: Final = "gemmule_requests_total"
_USD: Final = "gemmule_cost_usd_total"
_HOUR: Final = "* 3600"


def _share(codes: Values, by: str) -> str:
    return f"{rate(_REQUESTS, by, code=codes)} / {rate(_REQUESTS, by)}"


def _share_of_all(codes: Values) -> str:
    """0 also where no request ever ended so, and there is no series."""
    return f"({rate(_REQUESTS, code=codes)} or vector(0)) / {rate(_REQUESTS)}"


_NOW: Final = Row(
    "Now",
    (
        Panel("Requests", "That ended, refused ones too.", "reqps", rate(_REQUESTS), "all", 4, single=True),
        Panel(
            "In flight",
            "Accepted and not ended.",
            "none",
            total(once(series("gemmule_in_flight_requests"))),
            "all",
            4,
            single=True,
        ),
        Panel("Broken", "Ended with an error of ours.", "percentunit", _share_of_all(BROKEN), "broken", 4, single=True),
        Panel(
            "Refused", "Found no room or no replica.", "percentunit", _share_of_all(REFUSED), "refused", 4, single=True
        ),
        Panel("First token, p95", "All tiers.", "s", quantile(0.95, "gemmule_ttft_seconds"), "p95", 4, single=True),
        Panel("Cost an hour", "Lost work too.", "currencyUSD", f"{rate(_USD)} {_HOUR}", "USD/h", 4, single=True),
    ),
)
_TRAFFIC: Final = Row(
    "Traffic",
    (
        Panel(
            "Requests by end",
            "`ok`, `aborted` (the client left), or the error's code.",
            "reqps",
            rate(_REQUESTS, "code"),
            "{{code}}",
            stacked=True,
        ),
        Panel(
            "Requests by tier",
            "As asked for; `none` named a size.",
            "reqps",
            rate(_REQUESTS, "tier"),
            "{{tier}}",
            stacked=True,
        ),
        Panel(
            "Requests by size",
            "Whose answer the client got; `none` got no answer.",
            "reqps",
            rate(_REQUESTS, "size"),
            "{{size}}",
            stacked=True,
        ),
        Panel(
            "Prompt tokens",
            "Of finished requests, a second.",
            "none",
            rate("gemmule_prompt_tokens_total", "size"),
            "{{size}}",
            stacked=True,
        ),
        Panel(
            "Output tokens",
            "Of finished requests, a second.",
            "none",
            rate("gemmule_output_tokens_total", "size"),
            "{{size}}",
            stacked=True,
        ),
        Panel(
            "Why a size was chosen",
            "Many `spilled`, `fell_back` or `browned_out`: a size has too few replicas.",
            "reqps",
            rate("gemmule_routed_total", "reason"),
            "{{reason}}",
            stacked=True,
        ),
    ),
)
_SPEED: Final = Row(
    "Speed",
    (
        Panel(
            "First token by tier, p50",
            "Arrival at the edge to the first event.",
            "s",
            quantile(0.5, "gemmule_ttft_seconds", "tier"),
            "{{tier}}",
        ),
        Panel(
            "First token by tier, p95",
            "Alert: GemmuleSlowFirstToken.",
            "s",
            quantile(0.95, "gemmule_ttft_seconds", "tier"),
            "{{tier}}",
        ),
        Panel(
            "First token by size, p99",
            "A size far above the others: look at its engine.",
            "s",
            quantile(0.99, "gemmule_ttft_seconds", "size"),
            "{{size}}",
        ),
        Panel(
            "Between tokens by size, p50",
            "Gap between two events of one answer (ITL).",
            "s",
            quantile(0.5, "gemmule_itl_seconds", "size"),
            "{{size}}",
        ),
        Panel(
            "Between tokens by size, p99",
            "Far above p50: prompts hold up decoding, or a host stalls.",
            "s",
            quantile(0.99, "gemmule_itl_seconds", "size"),
            "{{size}}",
        ),
        Panel(
            "Whole answer by tier, p95",
            "Arrival to last event.",
            "s",
            quantile(0.95, "gemmule_request_duration_seconds", "tier"),
            "{{tier}}",
        ),
    ),
)
_ERRORS: Final = Row(
    "Errors",
    (
        Panel(
            "Broken, by code",
            "Share of all requests. Alert: GemmuleFailing.",
            "percentunit",
            f"{rate(_REQUESTS, 'code', code=BROKEN)} / on () group_left () {rate(_REQUESTS)}",
            "{{code}}",
            stacked=True,
        ),
        Panel(
            "Refused, by tier",
            "Share of the tier's requests. Alert: GemmuleRefusing.",
            "percentunit",
            _share(REFUSED, "tier"),
            "{{tier}}",
        ),
        Panel(
            "Late, by tier",
            "Share whose deadline passed. Alert: GemmuleLate.",
            "percentunit",
            _share(Code.DEADLINE_EXCEEDED, "tier"),
            "{{tier}}",
        ),
    ),
)
_PROMISES: Final = Row(
    "Promises",
    (
        Panel(
            "Quality kept",
            "Seen where `routing.shadow.share` is above 0. Alert: GemmulePromiseBroken.",
            "percentunit",
            now("gemmule_promise_share", "tier, bound", bound=("promised", "kept", "low", "high")),
            "{{tier}} {{bound}}",
            12,
        ),
        Panel(
            "Promise waived",
            "1 while a tier takes the cheapest size under load. Alert: GemmulePromiseWaived.",
            "none",
            now("gemmule_promise_waived", "tier"),
            "{{tier}}",
            6,
        ),
        Panel(
            "Looked at again",
            "What watching over promises costs an hour.",
            "currencyUSD",
            f"{rate('gemmule_shadow_usd')} {_HOUR}",
            "shadow",
            6,
        ),
    ),
)
_COST: Final = Row(
    "Cost",
    (
        Panel(
            "Cost an hour, by size",
            "Every size's part, whoever's answer it was.",
            "currencyUSD",
            f"{rate(_USD, 'size')} {_HOUR}",
            "{{size}}",
            6,
            stacked=True,
        ),
        Panel(
            "Cost an hour, by what became of it",
            "`draft`: a larger size took over; `lost`: nobody got it.",
            "currencyUSD",
            f"{rate(_USD, 'role')} {_HOUR}",
            "{{role}}",
            6,
            stacked=True,
        ),
        Panel(
            "A million output tokens",
            "All work over the tokens that clients got.",
            "currencyUSD",
            f"{rate(_USD, 'tier')} / {rate('gemmule_output_tokens_total', 'tier')} * 1e6",
            "{{tier}}",
            6,
        ),
        Panel(
            "Drafts that were right",
            "Share of a smaller size's tokens that the larger one kept.",
            "percentunit",
            f"{rate('gemmule_draft_tokens_total', 'size', right='yes')} / {rate('gemmule_draft_tokens_total', 'size')}",
            "{{size}}",
            6,
        ),
    ),
)

OVERVIEW: Final = Board("gemmule-overview", "gemmule: overview", (_NOW, _TRAFFIC, _SPEED, _ERRORS, _PROMISES, _COST))
