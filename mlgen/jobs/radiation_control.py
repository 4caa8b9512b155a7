"""Compare what a model of radiation draws with events that it did not learn from: `mlgen radiation control`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from mlgen.campaign.jet_file import read_jets
from mlgen.campaign.radiation_file import read_radiation
from mlgen.campaign.run_record import versions
from mlgen.campaign.whole_files import checksum, write_bytes_atomically, write_json_atomically
from mlgen.core import Progress, random_stream
from mlgen.diagnostics.radiation_report import render_radiation_report
from mlgen.errors import CardError
from mlgen.jobs.stages import one_thread
from mlgen.radiation.control import ControlRecord, ControlSettings, control
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.learned import LearnedRadiation
from mlgen.radiation.spectra import GeneratedEvents

RECORD_FILE, REPORT_FILE = "control.json", "control.html"

TILE = 4096
"""Events that are drawn at once."""


def control_model(
    folder: Path,
    jets: Path,
    model: Path,
    n_events: int | None,
    seed: int,
    max_jets: int,
    progress: Progress,
) -> ControlRecord:
    """Draw as many events as there are true ones, for their hard objects; compare, and write the report.

    Where the model learned from the first events of the same file, the others are the true ones.

    Args:
        n_events: true events; None: all that are left.

    Raises:
        PackError: a file is damaged.
        CardError: there are too few events.
        MlgenError: the report cannot be written.
    """
    with one_thread():
        stored, truth_file = read_radiation(model), read_jets(jets)
        radiation, origin = stored.radiation, stored.origin
        known = origin.n_events if checksum(jets) == origin.jets_sha256 else 0
        left = len(truth_file.events) - known
        wanted = left if n_events is None else n_events
        if not 0 < wanted <= left:
            raise CardError(
                f"--n-events {wanted}: expected 1 to {left}, as {jets.name} has beside those that the "
                "model has learned from"
            )
        truth = truth_file.events.to_events().select(slice(known, known + wanted))
        made = drawn(radiation, truth, seed, max_jets, progress)
        settings = ControlSettings(
            pt_min=radiation.representation.pt_min, n_trained=origin.n_max, seed=seed
        )
        record = control(truth, made, settings, progress)
        record = replace(
            record,
            process=f"jets of {jets.name}",
            model={"file": model.name, "sha256": checksum(model), **asdict(origin)},
            versions=versions(),
        )
        write_json_atomically(folder / RECORD_FILE, record.to_table())
        write_bytes_atomically(folder / REPORT_FILE, render_radiation_report(record).encode())
    return record


def drawn(
    radiation: LearnedRadiation, truth: JetEvents, seed: int, max_jets: int, progress: Progress
) -> GeneratedEvents:
    """Events for the hard objects of others, with the weights of the members where there are several."""
    parts, weights = [], []
    with progress.step("drawing jets", len(truth)) as advance:
        for index, hard in enumerate(torch.split(truth.hard, TILE)):
            part = radiation.sample(hard, random_stream(seed, "control", index), max_jets)
            parts.append(part)
            weights.append(radiation.density(part).weights.T)
            advance(len(hard), "")
    members = torch.cat(weights)
    several = members if members.shape[1] > 1 else members[:, :0]
    return GeneratedEvents.of(JetEvents.concatenate(parts), members=several)
