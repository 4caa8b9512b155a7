"""`surrogate.html`: what a surrogate has learned, and whether its uncertainties mean what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mlgen.diagnostics.page import PageFigure, duration, percent, render_page
from mlgen.diagnostics.rounding import with_error
from mlgen.diagnostics.surrogate_plots import (
    coverage_plot,
    delta_plot,
    error_plot,
    gain_plot,
    learning_plot,
    pull_plot,
    validation_plot,
)
from mlgen.surrogates.accuracy import PRECISE, STATISTICAL, TOTAL, RegionAccuracy
from mlgen.surrogates.calibration import ONE_SIGMA
from mlgen.surrogates.distributions import DELTA_QUANTILES
from mlgen.surrogates.learning_curve import LearningPoint
from mlgen.surrogates.record import GroupRecord, SurrogateRecord

ALL = "all"
"""The region that holds every point."""
WIDTH_GOAL = 0.1
"""A pull width further from 1 is marked."""
COVERAGE_GOALS = {ALL: 0.03}
"""A coverage of the 68 % interval further from that is marked."""
OTHER_COVERAGE_GOAL = 0.06
"""The same in smaller regions."""


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    warning: bool


def render_surrogate_report(record: SurrogateRecord, card: str = "") -> str:
    """The report as HTML.

    Args:
        card: the whole card, TOML; left out where it is empty.
    """
    context = {
        "title": f"{record.process} · surrogate",
        "record": record,
        "card": card,
        "headline": list(_headline(record)),
        "quantiles": [f"{100 * share:g} %" for share in DELTA_QUANTILES],
        "parts": _parts(record),
        "groups": [_section(index, group) for index, group in enumerate(record.groups)],
        "gains": list(_gains(record)),
        "gain_figures": list(_gain_figures(record)),
        "settings": _settings(record),
    }
    return render_page("surrogate_report.html.j2", context)


def _headline(record: SurrogateRecord) -> Iterator[tuple[str, str, str]]:
    """Label, value and small print of each number at the top: of the worst group, where there are several."""
    several = len(record.groups) > 1
    of_worst = "; of the worst group" if several else ""
    regions = [group.regions[ALL] for group in record.groups]
    worst = min(regions, key=lambda region: region.precise_share)
    share = f"{100 * worst.precise_share:.1f}%"
    yield f"|Δ| below {100 * PRECISE:g}%", share, f"of the points{of_worst}"
    worst = max(regions, key=lambda region: abs(region.pull_width - 1))
    of = worst.pulls[TOTAL]
    yield "pull width", with_error(of.width, of.width_error), f"1 is right{of_worst}"
    worst = max(regions, key=lambda region: abs(region.coverage_68 - ONE_SIGMA))
    coverage = worst.coverage_at(ONE_SIGMA)
    text = percent(coverage.share, coverage.error)
    yield "coverage of one σ", text, f"68.3% is right{of_worst}"
    n = sum(group.n_sample for group in record.groups)
    yield "learned from", f"{n:,}", f"points, drawn by {record.sampler}"
    cpu_s = sum(group.training.cpu_s for group in record.groups)
    yield "training", duration(cpu_s), f"of CPU time; {record.settings.method}"
    slowest = max(group.us_per_point for group in record.groups)
    yield "prediction", f"{slowest:.2g} µs", f"of CPU time a point{of_worst}"


def _parts(record: SurrogateRecord) -> list[str]:
    """The kinds of pulls that some region has, in their order."""
    found: dict[str, None] = {}
    for group in record.groups:
        for region in group.regions.values():
            found |= dict.fromkeys(region.pulls)
    return list(found)


def _section(index: int, group: GroupRecord) -> dict[str, Any]:
    return {
        "group": group,
        "rows": [_row(name, region) for name, region in group.regions.items()],
        "figures": list(_figures(f"group{index}-", group)),
    }


def _row(name: str, region: RegionAccuracy) -> dict[str, Any]:
    goal = COVERAGE_GOALS.get(name, OTHER_COVERAGE_GOAL)
    one_sigma, two_sigma = region.coverage_at(ONE_SIGMA), region.coverage_at(0.95)
    off = abs(one_sigma.share - ONE_SIGMA)
    return {
        "name": name,
        "n": f"{region.n:,}",
        "precise": f"{100 * region.precise_share:.1f}",
        "quantiles": [f"{100 * value:.2g}" for value in region.delta_quantiles],
        "pulls": {
            part: _Cell(
                with_error(of.width, of.width_error),
                # A width that its own error allows to be right is not marked.
                part == TOTAL and abs(of.width - 1) > WIDTH_GOAL + 3 * of.width_error,
            )
            for part, of in region.pulls.items()
        },
        "median": f"{region.pulls[TOTAL].median:+.2f}".replace("-0.00", "+0.00"),
        "coverage_68": _Cell(
            with_error(100 * one_sigma.share, 100 * one_sigma.error),
            off > goal + 3 * one_sigma.error,
        ),
        "coverage_95": with_error(100 * two_sigma.share, 100 * two_sigma.error),
        "covered": f"{100 * region.covered_share:.2f}",
    }


def _figures(prefix: str, group: GroupRecord) -> Iterator[PageFigure]:
    regions = group.regions
    yield PageFigure(
        Markup(delta_plot(regions, f"{prefix}delta")),
        "Deviations",
        "Δ = learned / true - 1, of A = |M|². Above: how its size is distributed. Below: which share of the points "
        f"has a larger one. The dashed line is {100 * PRECISE:g}%.",
    )
    yield _pull_figure(prefix, group)
    yield PageFigure(
        Markup(pull_plot(_totals(regions), f"{prefix}pulls")),
        "Pulls, by region",
        "Learned less true ln |M|² over the whole standard deviation, beside the normal distribution. "
        "Triangles lie outside of the lower panel.",
    )
    yield PageFigure(
        Markup(coverage_plot(regions, f"{prefix}coverage")),
        "Coverage",
        "How many points lie inside the central intervals of the predicted distributions. Above the "
        "line uncertainties are too large, below too small.",
    )
    yield PageFigure(
        Markup(error_plot(regions, f"{prefix}errors")),
        "Predicted and realised errors",
        "Points in bins of equal size by predicted standard deviation: what 68% of their errors lie "
        "below. On the line, the surrogate knows where it is good.",
    )
    if len(group.learning_curve) > 1:
        yield _learning_figure(prefix, group.learning_curve)
    if len(group.training.validation_losses) > 1:
        yield PageFigure(
            Markup(validation_plot(group.training, f"{prefix}loss")),
            "Training",
            f"The loss on points held out for it: {group.training.n_steps:,} steps, "
            f"{duration(group.training.cpu_s)} of CPU time.",
        )


def _pull_figure(prefix: str, group: GroupRecord) -> PageFigure:
    pulls = dict(group.regions[ALL].pulls)
    text = (
        "Total and systematic: learned less true ln |M|², over that part of the standard deviation. "
        "The systematic part alone is too small where the statistical one matters."
    )
    repeated = [p for p in group.learning_curve if STATISTICAL in p.regions[ALL].pulls]
    if repeated and STATISTICAL not in pulls:
        point = repeated[-1]
        pulls[STATISTICAL] = of = point.regions[ALL].pulls[STATISTICAL]
        width = with_error(of.width, of.width_error)
        text += f" Statistical, of surrogates that learned from {point.n:,} points each (width {width}):"
    elif STATISTICAL in pulls:
        text += " Statistical, of several trainings:"
    if STATISTICAL in pulls:
        text += " how much they scatter, over what each says that it is."
    svg = Markup(pull_plot(pulls, f"{prefix}parts"))
    return PageFigure(svg, "Pulls, by part of the uncertainty", text)


def _totals(regions: Mapping[str, RegionAccuracy]) -> dict[str, Any]:
    return {name: region.pulls[TOTAL] for name, region in regions.items()}


def _learning_figure(prefix: str, points: tuple[LearningPoint, ...]) -> PageFigure:
    times = ", ".join(f"{point.n:,}: {duration(point.training.cpu_s)}" for point in points)
    return PageFigure(
        Markup(learning_plot(points, ALL, f"{prefix}learning")),
        "What points are worth",
        "A surrogate for each size, tested on the same points. Above: |Δ| that so many points lie "
        f"below. Below: the points with |Δ| under {100 * PRECISE:g}%. CPU time of the trainings: "
        f"{times}.",
    )


def _gains(record: SurrogateRecord) -> Iterator[dict[str, str]]:
    for of in record.two_stage:
        yield {
            "sampler": of.sampler,
            "eps_full": f"{100 * of.eps_full:.3g}%",
            "eps_1": f"{100 * of.eps_1:.3g}%",
            "eps_2": f"{100 * of.eps_2:.3g}%",
            "alpha": f"{of.alpha:.5f}",
            "bound": f"{of.bound:.3g}",
            "f_eff": f"{of.f_eff:.3g}",
            "n_events": "any" if of.n_events is None else f"{of.n_events:,}",
        }


def _gain_figures(record: SurrogateRecord) -> Iterator[PageFigure]:
    if record.two_stage:
        yield PageFigure(
            Markup(gain_plot(record.two_stage, "gain")),
            "Gain against the efficiency already reached",
            "A surrogate that costs nothing gains ε₂ / ε: the better a sampler is, the less there is "
            "left. Below 1 one stage is faster.",
        )


def _settings(record: SurrogateRecord) -> dict[str, Any]:
    return {"seed": record.seed, **dataclasses.asdict(record.settings)}
