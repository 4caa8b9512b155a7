"""The table of a comparison, for the terminal: a column for each sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mlgen.diagnostics.comparison import (
    BUDGETS,
    MAX_PULL,
    N_EVENTS,
    ComparisonResult,
    Result,
    cheapest,
    largest_pull,
)
from mlgen.diagnostics.contenders import Cost
from mlgen.diagnostics.rounding import with_error

Cell = Callable[[Result], str]


def comparison_text(comparison: ComparisonResult) -> str:
    """The table, and below it what it comes to."""
    settings = comparison.settings
    head = (
        f"{comparison.title}: each learns from {settings.n_calls:,} calls, "
        f"then draws N = {settings.n_points:,} fresh points; CPU time"
    )
    lines = [head, "", *_table(comparison), "", _agreement(comparison), _verdict(comparison)]
    return "\n".join([*lines, *(f"note: {note}" for note in comparison.notes)])


def _table(comparison: ComparisonResult) -> list[str]:
    unit = f" [{comparison.unit}]" if comparison.unit else ""
    rows: list[tuple[str, Cell]] = [
        (
            f"{'cross section' if unit else 'integral'}{unit}",
            lambda r: with_error(r.points.cross_section, r.points.error),
        ),
        ("relative standard deviation", lambda r: f"{r.relative_std:.3g}"),
        *((f"eps_uw (t = {100 * t:g} %)", _efficiency(i)) for i, t in enumerate(BUDGETS)),
        ("effective sample size / N", lambda r: f"{r.ess:.3f}"),
        ("learning: calls", lambda r: f"{r.learning.n_calls:,}"),
        ("learning: CPU s", lambda r: f"{r.learning.cpu_s:.1f}"),
        ("  of them the integrand's", lambda r: f"{r.learning.integrand_cpu_s:.1f}"),
        ("us per point", lambda r: f"{r.us_per_point:.2f}"),
        ("  of them the integrand's", lambda r: f"{_integrand_us(r.sampling):.2f}"),
        ("us per unweighted event", lambda r: _size(r.us_per_event)),
        *((f"CPU s to {n:,} events", _seconds(n)) for n in N_EVENTS),
    ]
    columns = [["", *(label for label, _ in rows)]]
    columns += [[r.title, *(cell(r) for _, cell in rows)] for r in comparison.results]
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(
            text.ljust(width) if first else text.rjust(width)
            for text, width, first in zip(line, widths, _first(len(widths)), strict=True)
        ).rstrip()
        for line in zip(*columns, strict=True)
    ]


def _efficiency(index: int) -> Cell:
    return lambda r: with_error(r.eps_uw[index].value, r.eps_uw[index].error)


def _seconds(n_events: int) -> Cell:
    return lambda r: _size(r.cpu_s_for(n_events))


def _integrand_us(cost: Cost) -> float:
    return 1e6 * cost.integrand_cpu_s / cost.n_points


def _size(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _first(n: int) -> Sequence[bool]:
    return [True, *[False] * (n - 1)]


def _agreement(comparison: ComparisonResult) -> str:
    pull = largest_pull(comparison.results)
    if pull is None:
        return "nothing to compare the value with"
    text = f"{pull.first} and {pull.second} are {abs(pull.value):.1f} standard deviations apart"
    if abs(pull.value) > MAX_PULL:
        return f"WARNING: the samplers DISAGREE: {text}. At least one value is wrong."
    return f"the samplers agree: {text} at most"


def _verdict(comparison: ComparisonResult) -> str:
    """Which one to take, by the number of events."""
    titles = {r.name: r.title for r in comparison.results}
    ranges = cheapest(comparison.results)
    if not ranges:
        return "no sampler makes unweighted events"
    (_, first), *later = ranges
    return f"least CPU time, learning included: {titles[first]}" + "".join(
        f"; from {_round(n_events)} events on {titles[name]}" for n_events, name in later
    )


def _round(n_events: float) -> str:
    """Two digits: 12345 is 12,000."""
    if n_events < 1:
        return "the first"
    digits = 1 - math.floor(math.log10(n_events))
    return f"{round(n_events, digits):,.0f}"
