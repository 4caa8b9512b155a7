"""`report.html`: a run on one page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from mlgen.core import EventBatch
from mlgen.diagnostics.costs import costs_text
from mlgen.diagnostics.cross_section import cross_section_text, variation_tables
from mlgen.diagnostics.observables import Comparison, compare, observables
from mlgen.diagnostics.page import PageFigure, duration, percent, render_page
from mlgen.diagnostics.plots import (
    WeightSample,
    comparison_plot,
    efficiency_plot,
    loss_plot,
    training_plot,
    weight_plot,
    zero_share,
)
from mlgen.diagnostics.rounding import with_error

UNLIKELY = 1e-3
"""A distribution with a p-value below this is marked in the report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportInput:
    """What a report is made from. What is empty or None is left out of the page."""

    record: Mapping[str, Any]
    """`run.json`, as a table."""
    card: str
    """The whole card, TOML."""
    weights: Mapping[str, WeightSample] = field(default_factory=dict)
    """Fresh points of each sampler that was tried."""
    loss: Sequence[float] = ()
    """The training loss of each step, in order."""
    loss_name: str = "loss"
    """What the loss is, for the axis: `variance / mean²`."""
    events: EventBatch | None = None
    """The events as written, or a fair part of them."""
    reference: EventBatch | None = None
    """Weighted points (pb) of the estimate, independent of the events: what they must agree with."""


def render_report(report: ReportInput) -> str:
    """The report as HTML."""
    record = report.record
    context = {
        "title": record["process"],
        "record": record,
        "card": report.card,
        "headline": list(_headline(record)),
        "samplers": list(_sampler_rows(record)),
        "budgets": sorted({eps["t"] for eps in _efficiencies(record).values()}),
        "surrogate": _surrogate(record),
        "sampling_figures": list(_sampling_figures(report)),
        "event_figures": list(_event_figures(report)),
        "variations": list(variation_tables(record)),
        "groups": list(_shares(record["groups"])),
        "channels": list(_shares(record["channels"])),
        "wall_s": sum(record["wall_s"].values()),
        "cpu_s": sum(record["cpu_s"].values()),
        "steps": [step for step, wall_s in record["wall_s"].items() if wall_s > 0],
    }
    return render_page("report.html.j2", context, {"costs": costs_text})


def _headline(record: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Label, value and small print of each number at the top."""
    if record["cross_section_pb"] is not None:
        sigma, error = record["cross_section_pb"], record["cross_section_error_pb"]
        relative = f"relative error {100 * error / abs(sigma):.2g}%" if sigma else ""
        yield "cross section", cross_section_text(record), relative
    if eps := record["eps_uw"]:
        text = f"{record['sampler']}; N = {eps['n']:,}, t = {100 * eps['t']:g}%"
        yield "unweighting efficiency", percent(eps["value"], eps["error"]), text
    gain = _gain(_efficiencies(record), record["sampler"])
    if gain and record["sampler"] != "vegas":
        yield "gain over VEGAS", gain, "ratio of the unweighting efficiencies"
    calls = f"from {record['n_matrix_element_calls']:,} matrix elements"
    yield "events", f"{record['n_events']:,}", calls
    wall_s, cpu_s = sum(record["wall_s"].values()), sum(record["cpu_s"].values())
    if wall_s > 0:
        yield "time", duration(wall_s), f"{duration(cpu_s)} of CPU time"
    yield "seed", str(record["seed"]), "the same seed, the same events"


def _efficiencies(record: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    return {name: entry["eps_uw"] for name, entry in record["samplers"].items()}


def _gain(efficiencies: Mapping[str, Mapping[str, float]], name: str) -> str:
    """eps_uw over that of VEGAS, empty where one of them is unknown."""
    ours, vegas = efficiencies.get(name), efficiencies.get("vegas")
    if ours is None or vegas is None or not vegas["value"] > 0 or not ours["value"] > 0:
        return ""
    ratio = ours["value"] / vegas["value"]
    relative = (ours["error"] / ours["value"]) ** 2 + (vegas["error"] / vegas["value"]) ** 2
    return with_error(ratio, ratio * relative**0.5)


def _sampler_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    efficiencies = _efficiencies(record)
    for name, entry in record["samplers"].items():
        eps = entry["eps_uw"]
        us_per_event = entry["us_per_point"] / eps["value"] if eps["value"] > 0 else None
        yield {
            "name": name,
            "chosen": name == record["sampler"],
            "cross_section": with_error(entry["cross_section_pb"], entry["cross_section_error_pb"]),
            "eps_uw": percent(eps["value"], eps["error"]),
            "gain": "1" if name == "vegas" else _gain(efficiencies, name),
            "ess": f"{100 * entry['ess']:.1f}%",
            "overweight": f"{100 * entry['overweight_fraction']:.2g}%",
            "us_per_point": f"{entry['us_per_point']:.3g}",
            "us_per_event": "" if us_per_event is None else f"{us_per_event:.3g}",
            "n_points": f"{entry['n_points']:,}",
        }


def _surrogate(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a surrogate reached on top of the sampler of the events, None where there is none."""
    found = record.get("surrogate")
    if found is None:
        return None
    eps_uw = _efficiencies(record)[record["sampler"]]["value"]
    return {
        "method": found["method"],
        "n_training": f"{found['n_training']:,}",
        "is_used": found["is_used"],
        "sampler": record["sampler"],
        "cells": [
            f"{100 * eps_uw:.1f}%",
            f"{100 * found['eps_1']:.1f}%",
            f"{100 * found['eps_2']:.1f}%",
            f"{found['alpha']:.5f}",
            f"{100 * found['overweight_fraction']:.2g}%",
            f"{found['us_per_point']:.3g}",
            f"{found['us_per_survivor']:.3g}",
            f"{found['gain']:.2f}",
            f"{found['eps_2'] / eps_uw:.2f}",
        ],
    }


def _sampling_figures(report: ReportInput) -> Iterator[PageFigure]:
    if report.weights:
        yield PageFigure(
            Markup(weight_plot(report.weights)),
            "Weights",
            "One sharp peak at 1 would be perfect. The dashed lines are w_max, where a point is "
            "always kept: the nearer to 1, the fewer points an event costs. Zeros, from cuts: "
            + ", ".join(f"{name} {zero_share(s):.0%}" for name, s in report.weights.items()),
        )
        marks = {
            name: (eps["t"], eps["value"], eps["error"])
            for name, eps in _efficiencies(report.record).items()
        }
        yield PageFigure(
            Markup(efficiency_plot(report.weights, marks)),
            "Efficiency against overweight budget",
            "How the unweighting efficiency depends on the share t of the cross section that may "
            "lie above w_max. Points: what the run quotes.",
        )
    training = report.record.get("training")
    if training and len(training["steps"]) > 1:
        yield _training_figure(report.record, training)
    if len(report.loss) > 1:
        yield PageFigure(
            Markup(loss_plot(report.loss, report.loss_name)),
            "Loss",
            f"The loss of each of {len(report.loss):,} training steps.",
        )


def _training_figure(record: Mapping[str, Any], training: Mapping[str, Any]) -> PageFigure:
    marks = {
        name: (training["n_steps"], eps["value"], eps["error"])
        for name, eps in _efficiencies(record).items()
        if name in ("vegas", training["sampler"])
    }
    return PageFigure(
        Markup(training_plot(training["steps"], training["eps_uw"], marks)),
        "Training",
        "The unweighting efficiency of points that were drawn in between, before anything was "
        "trained on them. They are fewer than those that measure a sampler: fewer points look "
        "better, as they miss more of the tail.",
    )


def _event_figures(report: ReportInput) -> Iterator[PageFigure]:
    events, reference = report.events, report.reference
    sigma = report.record["cross_section_pb"]
    if events is None or reference is None or not sigma or not (len(events) and len(reference)):
        return
    for index, observable in enumerate(observables(events)):
        comparison = compare(observable, events, reference, sigma)
        if comparison is not None:
            title = observable.name[0].upper() + observable.name[1:]
            svg = Markup(comparison_plot(comparison, index))
            yield PageFigure(svg, title, *_agreement(comparison))


def _agreement(comparison: Comparison) -> tuple[str, bool]:
    if comparison.n_dof < 1:
        return "too few events for a test", False
    p_value = comparison.p_value
    shown = f"{p_value:.2f}" if p_value >= 0.01 else f"{p_value:.1g}"
    text = f"χ²/n = {comparison.chi2:.1f}/{comparison.n_dof}, p = {shown}"
    return text, p_value < UNLIKELY


def _shares(entries: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Groups or channels, the largest first, with their part of the cross section."""
    total = sum(abs(entry["cross_section_pb"]) for entry in entries)
    for entry in sorted(entries, key=lambda entry: -abs(entry["cross_section_pb"])):
        sigma, error = entry["cross_section_pb"], entry["cross_section_error_pb"]
        share = 100 * abs(sigma) / total if total else 0.0
        yield {**entry, "cross_section": with_error(sigma, error), "share": share}
