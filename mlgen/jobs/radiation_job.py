"""Learn radiation from a file of jets; add it to the events of a file: `mlgen radiation train`, `mlgen radiate`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlgen.campaign.jet_file import StoredJets, read_jets
from mlgen.campaign.radiation_file import (
    RadiationOrigin,
    StoredRadiation,
    read_radiation,
    write_radiation,
)
from mlgen.campaign.radiation_members import MemberFile
from mlgen.campaign.run_record import versions
from mlgen.campaign.whole_files import checksum
from mlgen.core import EventBatch, Progress, SampleInfo, Variation, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, EventFileError
from mlgen.events.formats import open_reader, open_writer
from mlgen.events.writing import FileWeights, in_pieces
from mlgen.jobs.stages import one_thread
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.learned import learn
from mlgen.radiation.radiator import Radiator
from mlgen.radiation.records import JET
from mlgen.radiation.settings import NetworkSettings, TrainingSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class RadiationOrder:
    """What is wanted of `mlgen radiation train`."""

    jets: Path
    network: NetworkSettings
    training: TrainingSettings
    seed: int = 1
    n_events: int | None = None
    """The first so many of the file; None: all."""
    is_small: bool = False
    """Whether networks are stored in half precision."""

    def __post_init__(self) -> None:
        if self.n_events is not None and self.n_events < 1:
            raise CardError(f"--n-events {self.n_events}: expected a positive number of events")


def train_radiation(path: Path, order: RadiationOrder, progress: Progress) -> StoredRadiation:
    """Learn radiation, and write the model.

    Networks of an ensemble that a stopped training of the same order has finished are not trained again.

    Raises:
        PackError: the file of jets, or of finished networks, is damaged.
        CardError: these are of another order.
        MlgenError: its events cannot be learned from, or the model cannot be written.
        TrainingFailed: the loss is not finite.
    """
    with one_thread():
        stored = read_jets(order.jets)
        events = events_of(stored, order.n_events)
        jets = stored.origin.jets
        settings = replace(order.training, n_epochs=order.training.epochs(len(events)))
        training = _without_infinity(asdict(settings))
        jets_sha256 = checksum(order.jets)
        members = MemberFile(
            path,
            order.network,
            {
                "network": asdict(order.network),
                "training": training,
                "seed": order.seed,
                "n_events": len(events),
                "jets": jets_sha256,
            },
        )
        found = learn(
            events,
            jets.pt_min_gev,
            order.network,
            settings,
            order.seed,
            progress,
            members,
            jets.radius,
        )
        origin = RadiationOrigin(
            training=training,
            seed=order.seed,
            n_events=len(events),
            jets=asdict(stored.origin),
            jets_sha256=jets_sha256,
            cpu_s=sum(record.cpu_s for record in found.records),
            versions=versions(),
        )
        made = StoredRadiation(radiation=found.radiation, origin=origin)
        write_radiation(path, made, order.is_small)
        members.remove()
    return made


def events_of(stored: StoredJets, n_events: int | None) -> JetEvents:
    """The first events of a file of jets, all by default, as momenta.

    Raises:
        CardError: it has fewer.
    """
    events = stored.events.to_events()
    if n_events is None:
        return events
    if n_events > len(events):
        raise CardError(
            f"--n-events {n_events}: expected at most {len(events)}, as the file of jets has"
        )
    return events.select(slice(0, n_events))


@dataclass(frozen=True, kw_only=True, slots=True)
class RadiateResult:
    """What `mlgen radiate` left."""

    path: Path
    n_events: int
    n_jets: tuple[int, ...]
    """How many events have 0, 1, 2, ... jets."""
    n_redrawn: int
    """Jets that the beams had no energy for, and that were drawn again."""
    n_max: int
    """The largest number of jets that the model has seen."""


def radiate(
    events: Path | str,
    model: Path | str,
    output: Path | str,
    *,
    seed: int = 1,
    max_jets: int = 10,
    progress: Progress | None = None,
) -> RadiateResult:
    """Add jets to the events of a file, in bounded memory.

    Args:
        events: of a hard process, in any format.
        model: NAME.radiation.zip, from `mlgen radiation train`.
        output: the new file; its name says its format.
        seed: rules every random number.
        max_jets: an event that has so many gets no more.

    Raises:
        PackError: the model is damaged.
        EventFileError: an event file is damaged, or cannot be written.
        MlgenError: the events are not of a hard object and partons above the model's pt_min.
    """
    events, model, output = Path(events), Path(model), Path(output)
    progress = progress or SilentProgress()
    if max_jets < 1:
        raise CardError(f"--max-jets {max_jets}: expected at least 1")
    if output.resolve() == events.resolve():
        raise CardError(f"--output {output}: expected another file than that which is read")
    stored = read_radiation(model)
    with one_thread(), open_reader(events) as reader:
        info = reader.info
        weights = FileWeights.of(
            (weight for batch in reader for weight in batch.weight.tolist()), info
        )
    first, second = info.beams
    radiator = Radiator(
        radiation=stored.radiation,
        beam_energies=(first.energy_gev, second.energy_gev),
        max_jets=max_jets,
    )
    tally = _Tally()
    with (
        one_thread(),
        open_reader(events) as reader,
        progress.step("radiating", weights.n_events) as advance,
        open_writer(output, _described(info, stored, checksum(model)), weights) as writer,
    ):
        for index, piece in enumerate(in_pieces(_batches(reader))):
            made = radiator(piece, random_stream(seed, "radiate", index))
            writer.write(made.events)
            tally.add(made.events, made.n_redrawn)
            advance(len(piece), "")
    return RadiateResult(
        path=output,
        n_events=weights.n_events,
        n_jets=tuple(tally.n_jets),
        n_redrawn=tally.n_redrawn,
        n_max=stored.origin.n_max,
    )


class _Tally:
    """Counts what was made."""

    def __init__(self) -> None:
        self.n_jets: list[int] = []
        self.n_redrawn = 0

    def add(self, events: EventBatch, n_redrawn: int) -> None:
        """Take some more events."""
        is_jet = (events.pdg_id == JET) & (events.status == 1)
        counts = is_jet.sum(1).bincount(minlength=len(self.n_jets)).tolist()
        before = self.n_jets + [0] * (len(counts) - len(self.n_jets))
        self.n_jets = [one + more for one, more in zip(before, counts, strict=True)]
        self.n_redrawn += n_redrawn


def _batches(reader: Any) -> Iterator[EventBatch]:
    yield from reader


def _described(info: SampleInfo, stored: StoredRadiation, sha256: str) -> SampleInfo:
    """What the new file says of itself."""
    n_members = len(stored.radiation.ensemble.members)
    members = tuple(
        Variation(name=f"RADIATION_MEMBER={number}", group="radiation_members")
        for number in range(n_members if n_members > 1 else 0)
    )
    pt_min = stored.radiation.representation.pt_min
    notes = (
        ("radiation", f"jets above {pt_min:g} GeV, PDG id {JET}, drawn from a learned model"),
        ("radiation_model_sha256", sha256),
        ("radiation_learned_from", f"up to {stored.origin.n_max} jets; more are extrapolated"),
        ("radiation_recoil", "the colourless system takes all of it, and keeps mass and rapidity"),
        ("may_be_showered", "no: jets and incoming partons have neither flavour nor colour"),
    )
    if any(name == "radiation" for name, _ in info.notes):
        raise EventFileError("events with jets of a model already: expected a hard process")
    return replace(
        info,
        process=f"{info.process} + jets",
        notes=(*info.notes, *notes),
        variations=(*info.variations, *members),
    )


def _without_infinity(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and math.isinf(value) else value
        for key, value in table.items()
    }
