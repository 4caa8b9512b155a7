"""`radiation_control.html`: how well a model of radiation does, multiplicity by multiplicity."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from mlgen.diagnostics.page import PageFigure, duration, render_page
from mlgen.diagnostics.radiation_plots import (
    AUC_GOAL,
    agreement_plot,
    auc_plot,
    pull_plot,
    ratio_plot,
    share_plot,
    spectrum_plot,
    weight_plot,
)
from mlgen.diagnostics.rounding import with_error
from mlgen.radiation.classifier_weights import QUANTILES, ClassifierRecord
from mlgen.radiation.closeness import PRECISE, Closeness
from mlgen.radiation.control import ControlRecord, multiplicity_name
from mlgen.radiation.multiplicities import Compared
from mlgen.radiation.spectra import Agreement, Spectrum

WIDTH_GOAL = 0.3
"""A pull width further from 1 is marked."""
SHOWN_QUANTILES = (0.01, 0.99)
SHOWN_THRESHOLDS = (1.5, 2.0)


def render_radiation_report(record: ControlRecord) -> str:
    """The report as HTML."""
    found = record.multiplicities
    context = {
        "title": f"{record.process or 'jet radiation'} · control",
        "record": record,
        "headline": list(_headline(record)),
        "multiplicity_figures": list(_multiplicity_figures(record)),
        "ratios": list(_ratios(found.exclusive, found.inclusive)),
        "scaling": _scaling(record),
        "auc_goal": AUC_GOAL,
        "quantiles": [f"{100 * level:g}%" for level in SHOWN_QUANTILES],
        "thresholds": [f"{threshold:g}" for threshold in SHOWN_THRESHOLDS],
        "classifiers": [_classifier_row(record, of) for of in record.classifiers],
        "classifier_figures": list(_classifier_figures(record)) if record.classifiers else [],
        "agreements": [_agreement_row(record, of) for of in record.agreements],
        "closeness": [_closeness_row(of) for of in record.closeness],
        "off_bins": list(_off_rows(record)),
        "agreement_figures": list(_agreement_figures(record)) if record.agreements else [],
        "sections": list(_sections(record)),
        "settings": _settings(record),
    }
    return render_page("radiation_report.html.j2", context)


def _headline(record: ControlRecord) -> Iterator[tuple[str, str, str]]:
    """Label, value and small print of each number at the top."""
    trained = [of for of in record.classifiers if record.is_trained(of.n_jets, of.and_more)]
    if trained:
        worst = max(trained, key=lambda of: of.auc)
        name = multiplicity_name(worst.n_jets, worst.and_more)
        yield (
            "largest AUC, trained",
            with_error(worst.auc, worst.auc_error),
            f"at {name}; below {AUC_GOAL:g} is the goal",
        )
    for title, is_trained in (("trained", True), ("beyond", False)):
        ratios = [of for of in _deviations(record) if of.is_trained == is_trained]
        if ratios:
            # Far off by its own error alone, a ratio says nothing.
            known = [of for of in ratios if of.error < PRECISE] or ratios[:1]
            furthest = max(known, key=lambda of: abs(of.value))
            yield (
                f"σ ratio, {title}",
                f"({100 * furthest.value:+.1f} ± {100 * furthest.error:.1f})%",
                f"off true at {furthest.n_jets + 1} / {furthest.n_jets}",
            )
    widths = [
        of
        for of in record.agreements
        if record.is_trained(of.n_jets, of.and_more) and of.n_jets > 0
    ]
    if widths:
        worst_width = max(widths, key=lambda of: abs(of.pull_width - 1))
        name = multiplicity_name(worst_width.n_jets, worst_width.and_more)
        text = with_error(worst_width.pull_width, worst_width.pull_width_error)
        yield "width of pulls, trained", text, f"at {name}; 1 is right"
    yield "events", f"{record.n_truth:,}", f"true, and {record.n_generated:,} generated"
    yield "comparison", duration(record.cpu_s), "of CPU time"


class _Deviation(NamedTuple):
    """Of a generated exclusive ratio from the true one; relative, with the statistical error of both."""

    n_jets: int
    value: float
    error: float
    is_trained: bool


def _deviations(record: ControlRecord) -> Iterator[_Deviation]:
    of = record.multiplicities.exclusive
    for k, (true, made) in enumerate(zip(of.truth.value, of.generated.value, strict=True)):
        error = math.hypot(of.truth.error[k], of.generated.error[k]) / true
        yield _Deviation(k, made / true - 1, error, k < record.settings.n_trained)


def _multiplicity_figures(record: ControlRecord) -> Iterator[PageFigure]:
    yield PageFigure(
        Markup(share_plot(record, "shares")),
        "Multiplicities",
        "The share of the events that have so many jets. Below: generated over true.",
    )
    if record.multiplicities.exclusive.truth.value:
        yield PageFigure(
            Markup(ratio_plot(record, False, "exclusive")),
            "Ratios of multiplicities",
            "Of events with exactly so many jets, beside the two patterns of n-jet scaling, fitted to "
            "true events: staircase, the same ratio each time, and Poisson, falling as 1 / (n + 1).",
        )
        yield PageFigure(
            Markup(ratio_plot(record, True, "inclusive")),
            "Ratios of inclusive multiplicities",
            "Of events with so many jets at least: the chance of one more.",
        )


def _ratios(exclusive: Compared, inclusive: Compared) -> Iterator[dict[str, Any]]:
    for k in range(len(exclusive.truth.value)):
        cells: list[str] = []
        for of in (exclusive, inclusive):
            true, made = of.truth, of.generated
            spread = math.hypot(made.error[k], made.band[k] if made.band else 0.0)
            ratio = made.value[k] / true.value[k]
            error = math.hypot(spread / true.value[k], ratio * true.error[k] / true.value[k])
            cells += [
                with_error(true.value[k], true.error[k]),
                with_error(made.value[k], spread),
                with_error(ratio, error),
                _signed(of.pulls[k]),
            ]
        yield {"name": f"{k + 1} / {k}", "cells": cells}


def _scaling(record: ControlRecord) -> str:
    of = record.multiplicities.truth_scaling
    if of is None:
        return ""
    dof = of.n_ratios - 1
    return (
        f"n-jet scaling of true events (arXiv:1208.3676): staircase R = {of.staircase:.3f} with χ² / dof = "
        f"{of.staircase_chi2 / dof:.3g}, Poisson with a mean of {of.poisson:.3f} jets with χ² / dof = "
        f"{of.poisson_chi2 / dof:.3g}."
    )


def _classifier_row(record: ControlRecord, of: ClassifierRecord) -> dict[str, Any]:
    is_high = of.auc > AUC_GOAL + 2 * of.auc_error
    tails = {tail.threshold: tail for tail in of.tails}
    return {
        "name": multiplicity_name(of.n_jets, of.and_more),
        "n_truth": f"{of.n_truth:,}",
        "n_generated": f"{of.n_generated:,}",
        "auc": with_error(of.auc, of.auc_error),
        "warning": is_high and record.is_trained(of.n_jets, of.and_more),
        "mean_weight": f"{of.mean_weight:.3f}",
        "ess": f"{100 * of.ess:.1f}%",
        "quantiles": [f"{of.quantiles[QUANTILES.index(level)]:.3g}" for level in SHOWN_QUANTILES],
        "tails": [
            f"{100 * share:.2g}"
            for threshold in SHOWN_THRESHOLDS
            for share in (tails[threshold].weight_above, tails[threshold].generated_below)
        ],
    }


def _classifier_figures(record: ControlRecord) -> Iterator[PageFigure]:
    yield PageFigure(
        Markup(auc_plot(record.classifiers, record.settings.n_trained, "auc")),
        "AUC, by multiplicity",
        "0.5: true and generated events cannot be told apart. Errors are those of the events that were judged.",
    )
    for of in record.classifiers:
        name = multiplicity_name(of.n_jets, of.and_more)
        yield PageFigure(
            Markup(weight_plot(of, f"weights{of.n_jets}{'more' if of.and_more else ''}")),
            f"Weights, {name}",
            "On the left there are too many generated events, on the right too few. The true ones lie "
            "further right, as far as the two differ.",
        )


def _agreement_row(record: ControlRecord, of: Agreement) -> dict[str, Any]:
    off = abs(of.pull_width - 1)
    # Hard objects are those of the true events: without jets all but a few are the same.
    is_trained = record.is_trained(of.n_jets, of.and_more) and of.n_jets > 0
    return {
        "name": multiplicity_name(of.n_jets, of.and_more),
        "n_truth": f"{of.n_truth:,}",
        "n_generated": f"{of.n_generated:,}",
        "n_bins": f"{of.n_bins:,}",
        "width": with_error(of.pull_width, of.pull_width_error) if of.n_bins else "",
        "is_wide": is_trained and off > WIDTH_GOAL + 2 * of.pull_width_error,
        "band_share": f"{100 * of.band_share:.0f}" if of.n_bins else "",
    }


_KINDS = {"pt": "pt", "delta_r": "ΔR", "other": "other"}


def _closeness_row(of: Closeness) -> dict[str, Any]:
    return {
        "name": multiplicity_name(of.n_jets, of.and_more),
        "kind": _KINDS[of.kind],
        "counts": [f"{n:,}" for n in (of.n_within, of.n_open)],
        "n_off": f"{of.n_off:,}",
        # More than chance has them, where that is few.
        "is_off": of.n_off > of.n_chance + 3 * math.sqrt(of.n_chance + 0.1),
        "chance": f"{of.n_chance:.1f}",
    }


def _off_rows(record: ControlRecord) -> Iterator[list[str]]:
    for of in record.closeness:
        for off in of.off:
            yield [
                multiplicity_name(of.n_jets, of.and_more),
                off.observable.replace("delta_r", "ΔR"),
                f"{off.low:.3g} to {off.high:.3g}",
                f"{100 * off.deviation:+.0f} ± {100 * off.error:.0f}",
            ]


def _agreement_figures(record: ControlRecord) -> Iterator[PageFigure]:
    pulls: dict[str, list[float]] = {}
    for spectrum in record.spectra:
        is_trained = record.is_trained(spectrum.n_jets, spectrum.and_more)
        known = pulls.setdefault("trained" if is_trained else "beyond", [])
        known.extend(filter(math.isfinite, spectrum.pulls))
    if pulls:
        yield PageFigure(
            Markup(pull_plot({name: np.asarray(of) for name, of in pulls.items()}, "pulls")),
            "Pulls of all bins",
            "Where the model was trained, and beyond, beside the normal distribution; the first and the "
            "last bin hold what lies further out.",
        )
    n_trained = record.settings.n_trained
    yield PageFigure(
        Markup(agreement_plot(record.agreements, n_trained, "agreement")),
        "Widths of pulls",
        "Above 1 errors are too small, below too large. Below: the part of the predicted variance "
        "that is the model's own.",
    )


def _sections(record: ControlRecord) -> Iterator[dict[str, Any]]:
    groups = itertools.groupby(record.spectra, key=lambda of: (of.n_jets, of.and_more))
    for (n_jets, and_more), found in groups:
        if n_jets == 0:
            continue
        every = list(found)
        wanted = _wanted(n_jets)
        chosen = sorted(
            (of for of in every if of.observable in wanted), key=lambda of: wanted[of.observable]
        )
        yield {
            "name": multiplicity_name(n_jets, and_more),
            "is_trained": record.is_trained(n_jets, and_more),
            "figures": [_spectrum_figure(of) for of in chosen],
        }


def _wanted(n_jets: int) -> Mapping[str, int]:
    """What is drawn of each multiplicity, in its order: of the jets, the last one; the record has all."""
    names = ["pt of the hard object", f"pt of jet {n_jets}"]
    if n_jets == 1:
        names += ["pseudorapidity of jet 1", "mass of jet 1"]
    else:
        names += ["sum of pt of jets", "delta_r of jets 1 and 2"]
    if n_jets > 2:
        names += [f"delta_r of jets {n_jets - 1} and {n_jets}"]
    names += [f"azimuth between jet {n_jets} and the hard object", "pt of all together"]
    return {name: k for k, name in enumerate(names)}


def _spectrum_figure(of: Spectrum) -> PageFigure:
    known = [pull for pull in of.pulls if math.isfinite(pull)]
    text = "Too few events for a statement."
    if known:
        width = math.sqrt(sum(pull**2 for pull in known) / len(known))
        text = f"{len(known)} bins with enough events; width of their pulls {width:.2f}."
    name = of.observable.replace("delta_r", "ΔR")
    title = name if name.startswith("pt ") else f"{name[0].upper()}{name[1:]}"
    prefix = f"s{of.n_jets}{'more' if of.and_more else ''}-{of.observable.replace(' ', '-')}"
    return PageFigure(Markup(spectrum_plot(of, prefix)), title, text)


def _settings(record: ControlRecord) -> dict[str, Any]:
    settings = record.settings
    return {
        "trained on jets up to": settings.n_trained,
        "pt of jets above": f"{settings.pt_min:g} GeV",
        "seed of the comparison": settings.seed,
        **record.model,
    }


def _signed(number: float) -> str:
    return f"{number:+.1f}" if math.isfinite(number) else ""
