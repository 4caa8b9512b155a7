"""Summaries for people: of a run, an event file, a check, a card, a pack."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlgen.campaign import jet_file, radiation_file
from mlgen.campaign.checkpoint import CHECKPOINT_FILE
from mlgen.campaign.pack import SUFFIX, read_pack
from mlgen.campaign.run_record import RECORD_FILE, RunRecord
from mlgen.card_files import card_to_toml, find_card, read_card
from mlgen.cards import Card
from mlgen.diagnostics.costs import costs_text
from mlgen.diagnostics.cross_section import cross_section_text
from mlgen.diagnostics.rounding import with_error
from mlgen.errors import CardError, MlgenError
from mlgen.events.formats import format_names
from mlgen.events.summary import EventSummary, summarise
from mlgen.physics.process import particle_name, read_process
from mlgen.physics.ufo import read_model

if TYPE_CHECKING:
    from mlgen.campaign.merge import Merged
    from mlgen.events.check import CheckReport
    from mlgen.radiation.closeness import Closeness
    from mlgen.radiation.control import ControlRecord
    from mlgen.radiation.spectra import Agreement
    from mlgen.surrogates.record import SurrogateRecord

MOST_ROWS = 12
"""Of one kind; what is left out is rare, or said to be."""


def show(what: str) -> str:
    """Summarise an event file, a pack, a run folder, or a card given by path or name.

    Raises:
        CardError: there is no such thing.
        EventFileError, PackError: it is there, but damaged.
    """
    path = Path(what)
    if path.is_dir():
        path = path / RECORD_FILE
        if not path.is_file() and (path.parent / CHECKPOINT_FILE).is_file():
            return _table([("status", "it runs, or was killed"), _resume_row(path.parent)])
        if not path.is_file():
            raise CardError(f"{path.parent}: expected a run folder, with {RECORD_FILE} in it")
    if path.name.endswith(tuple(f".{name}" for name in format_names())):
        return show_events(path)
    if path.name.endswith(SUFFIX):
        return show_pack(path)
    if path.name.endswith(radiation_file.SUFFIX):
        return show_radiation(path)
    if path.name.endswith(jet_file.SUFFIX):
        return show_jets(path)
    if path.suffix == ".json":
        shown = show_record(_read_json(path))
        is_open = (path.parent / CHECKPOINT_FILE).is_file()
        return "\n".join([shown, _table([_resume_row(path.parent)])]) if is_open else shown
    return show_card(read_card(find_card(what)))


def show_record(record: Mapping[str, Any]) -> str:
    """What `run.json` says, in brief."""
    rows = [("process", record["process"]), ("status", record["status"])]
    rows += [("WARNING", warning) for warning in record.get("warnings", ())]
    if record["status"] != "complete":
        return _table([*rows, ("error", record["error"])])
    rows.append(("cross section", cross_section_text(record)))
    for name, sampler in record["samplers"].items():
        eps_uw = sampler["eps_uw"]
        value = with_error(eps_uw["value"], eps_uw["error"])
        made = " (made the events)" if name == record["sampler"] else ""
        rows.append((f"eps_uw {name}", f"{value}  (N = {eps_uw['n']}, t = {eps_uw['t']:g}){made}"))
    if surrogate := record.get("surrogate"):
        used = "made the events faster" if surrogate["is_used"] else "not used"
        rows.append(
            ("surrogate", f"{_two_stages(surrogate)}, f_eff {surrogate['gain']:.2f}; {used}")
        )
    rows.append(("events", str(record["n_events"])))
    rows.append(("overweight", f"{record['overweight_fraction']:.2%} of the cross section"))
    for decision in record["decisions"]:
        rows.append((decision["name"], f"{decision['choice']}: {decision['reason']}"))
        rows += [("", line) for line in costs_text(decision)]
    if warm := record.get("warm_start"):
        rows.append(("warm start", f"{warm['file']} (SHA-256 {warm['sha256'][:12]}…)"))
    if n_resumed := record.get("n_resumed"):
        rows.append(("interrupted", f"{n_resumed} time{'s' if n_resumed > 1 else ''}"))
    rows += [("note", note) for note in record.get("notes", ())]
    rows.append(("time", f"{sum(record['wall_s'].values()):.0f} s"))
    return _table(rows)


def _resume_row(folder: Path) -> tuple[str, str]:
    return "to go on", f"mlgen run --resume {folder}"


def show_run(record: RunRecord, folder: Path) -> str:
    """What a run ends with: its numbers, and where its files lie."""
    files = [("files", f"{folder}/")]
    files += [("", f"  {name}") for name in (*record.files, RECORD_FILE)]
    return show_record(record.to_table()) + "\n" + _table(files)


def _two_stages(steps: Mapping[str, Any]) -> str:
    return f"eps_1 {steps['eps_1']:.3g}, eps_2 {steps['eps_2']:.3g}, alpha {steps['alpha']:.5f}"


def show_surrogate(record: SurrogateRecord, folder: Path) -> str:
    """What was learned of a matrix element, and where it lies."""
    rows = [("process", record.process), ("points", f"by the sampler {record.sampler}")]
    for group in record.groups:
        everywhere, top = group.regions["all"], group.regions["top 1 %"]
        rows += [
            (group.name, f"{group.n_sample} points, tested with {group.n_test}"),
            ("  precise", f"{everywhere.precise_share:.1%} of the points within 0.1 %"),
            ("  pull width", f"{everywhere.pull_width:.2f}"),
            (
                "  coverage 68 %",
                f"{everywhere.coverage_68:.1%}, {top.coverage_68:.1%} in the top 1 %",
            ),
        ]
    for gain in record.two_stage:
        steps = f"{_two_stages(dataclasses.asdict(gain))}, eps_full {gain.eps_full:.3g}"
        rows.append((f"with {gain.sampler}", f"{steps}: f_eff {gain.f_eff:.2f}"))
    rows += [("note", note) for note in record.notes]
    rows.append(("files", f"{folder}/"))
    rows += [("", f"  {path.name}") for path in sorted(folder.iterdir())]
    return _table(rows)


def show_merged(merged: Merged) -> str:
    """What was joined."""
    sigma = with_error(merged.cross_section_pb, merged.cross_section_error_pb)
    return _table(
        [
            (
                "events",
                f"{merged.n_events:,}, worth {merged.kish_effective_size:,.0f} of equal weight",
            ),
            ("cross section", f"{sigma} pb"),
            ("overweight", f"{merged.overweight_fraction:.3g} of the cross section"),
            ("file", str(merged.path)),
        ]
    )


def show_card(card: Card) -> str:
    """The process of a card, its subprocess groups, and every key with its value."""
    groups = read_process(card.process, card.beams.particles, read_model(card.model))
    lines = [f"{card.process.definition}: {len(groups)} groups of subprocesses"]
    for group in groups:
        n_assignments = len(group.pdg_ids) * group.n_orientations
        lines.append(f"  {group.name}  ({n_assignments} assignments of flavours to the beams)")
    return "\n".join([*lines, "", card_to_toml(card).rstrip()])


def show_pack(path: Path) -> str:
    """What a sampler pack holds."""
    pack = read_pack(path)
    sums = pack.chosen.estimate.sums
    sigma = with_error(sums.mean, sums.error)
    rows = [
        ("process", pack.process),
        ("cross section", f"{sigma} pb"),
        ("seed", str(pack.seed)),
        ("written by", f"mlgen {pack.mlgen_version}"),
    ]
    for name, sampler in pack.samplers.items():
        n_numbers = sum(tensor.numel() for tensor in sampler.tensors.values())
        eps_uw = sampler.estimate.eps_uw
        made = f", eps_uw {with_error(eps_uw.value, eps_uw.error)}"
        made += ", makes the events" if name == pack.sampler else ""
        rows.append((name, f"{n_numbers} numbers, {len(sampler.w_max)} channels{made}"))
    if pack.surrogate is not None:
        n_numbers = sum(tensor.numel() for tensor in pack.surrogate.tensors.values())
        kept = with_error(pack.surrogate.kept, pack.surrogate.kept_error)
        rows.append(("surrogate", f"{n_numbers} numbers, keeps {kept} of the points"))
    return _table(rows)


def show_radiation(path: Path) -> str:
    """What a model of radiation holds, and what it was learned from."""
    stored = radiation_file.read_radiation(path)
    origin, model = stored.origin, stored.radiation
    n_numbers = sum(p.numel() for network in model.networks for p in network.parameters())
    return _table(
        [
            ("jets", f"above {model.representation.pt_min:g} GeV"),
            ("learned from", f"{origin.n_events:,} events, of each up to {origin.n_max} jets"),
            ("variant", str(origin.training["variant"])),
            ("networks", f"{len(model.networks)}, {n_numbers:,} numbers"),
            ("written by", f"mlgen {stored.mlgen_version}"),
        ]
    )


def show_control(record: ControlRecord, folder: Path) -> str:
    """How a model of radiation compares with true events."""
    shares, ratios = record.multiplicities.share, record.multiplicities.exclusive
    rows = [("events", f"{record.n_truth:,} true, {record.n_generated:,} generated")]
    for found in record.classifiers:
        name = f"{found.n_jets} jets{' or more' if found.and_more else ''}"
        rows.append(
            (name, f"AUC {with_error(found.auc, found.auc_error)}, mean w {found.mean_weight:.3f}")
        )
    for n_jets, (true, made) in enumerate(
        zip(ratios.truth.value, ratios.generated.value, strict=True)
    ):
        seen = "" if n_jets < record.settings.n_trained else "  (extrapolated)"
        rows.append((f"R {n_jets + 1}/{n_jets}", f"{made:.4f} generated, {true:.4f} true{seen}"))
    rows += [
        (f"bins, {a.n_jets} jets{' or more' if a.and_more else ''}", _agreement(a))
        for a in record.agreements
    ]
    rows += [
        (f"{c.kind}, {c.n_jets} jets{' or more' if c.and_more else ''}", _closeness(c))
        for c in record.closeness
    ]
    rows.append(("multiplicities", f"up to {len(shares.truth.value) - 1} jets"))
    rows.append(("files", f"{folder}/"))
    rows += [("", f"  {path.name}") for path in sorted(folder.iterdir())]
    return _table(rows)


def _agreement(found: Agreement) -> str:
    return f"pull width {with_error(found.pull_width, found.pull_width_error)}"


def _closeness(found: Closeness) -> str:
    return (
        f"{found.n_within} within 10 %, {found.n_open} open, {found.n_off} off "
        f"({found.n_chance:.1f} by chance)"
    )


def show_jets(path: Path) -> str:
    """What a file of jets holds, and how it was made."""
    stored = jet_file.read_jets(path)
    origin = stored.origin
    sigma = with_error(origin.cross_section_pb, origin.cross_section_error_pb)
    counts = stored.events.n_jets.bincount().tolist()
    jets = f"anti-kt {origin.jets.radius:g}, above {origin.jets.pt_min_gev:g} GeV"
    return _table(
        [
            ("events", f"{len(stored.events):,} ({origin.level})"),
            ("jets", f"{jets}, |eta| < {origin.jets.abs_eta_max:g}"),
            ("cross section", f"{sigma} pb"),
            ("seed", str(origin.seed)),
            *((f"{n} jets", f"{count:,}") for n, count in enumerate(counts)),
            ("written by", f"mlgen {stored.mlgen_version}"),
        ]
    )


def show_events(path: Path) -> str:
    """What an event file holds: header, numbers of events by final state, weights."""
    found = summarise(path)
    info = found.info
    sigma = with_error(info.cross_section_pb, info.cross_section_error_pb)
    beams = " ".join(f"{beam.pdg_id} at {beam.energy_gev:g} GeV," for beam in info.beams)
    same = found.smallest == found.largest
    spread = "all alike" if same else f"from {found.smallest:.4g} to {found.largest:.4g}"
    rows = [
        ("process", info.process or "not said"),
        ("beams", beams.rstrip(",")),
        ("cross section", f"{sigma} pb"),
        ("events", str(found.n_events)),
        ("weights", spread),
        *_show_variations(found),
        *info.notes,
    ]
    rows += [
        (" ".join(map(_name, ids)), f"{count} events")
        for ids, count in found.final_states[:MOST_ROWS]
    ]
    return _table(rows)


def _show_variations(found: EventSummary) -> list[tuple[str, str]]:
    """What each further weight makes of the cross section, for up to a dozen."""
    sigma = found.info.cross_section_pb
    rows = [
        (variation.name, f"{sigma * ratio:.6g} pb")
        for variation, ratio in zip(found.info.variations, found.ratios, strict=True)
    ]
    if len(rows) > MOST_ROWS:
        rows[MOST_ROWS:] = [("", f"and {len(rows) - MOST_ROWS} more weights")]
    return rows


def show_check(report: CheckReport) -> str:
    """What a check found, the errors first."""
    weights = f"IDWTUP = {report.weighting_strategy}, mean {report.mean_weight:.6g}"
    rows = [
        ("file", str(report.path)),
        ("events", str(report.n_events)),
        ("cross section", f"{report.cross_section_pb:.6g} pb"),
        ("weights", f"{weights}, Kish effective size {report.kish_effective_size:.6g}"),
        ("checksum", f"{report.checksum} (run.json beside the file)"),
    ]
    for finding in report.findings:
        where = f"event {finding.first_event}: " if finding.first_event else ""
        times = f" (in {finding.n_events} events)" if finding.n_events > 1 else ""
        rows.append((finding.severity, f"{finding.kind}: {where}{finding.what}{times}"))
    rows.append(("verdict", "good" if report.is_good else "not good"))
    return _table(rows)


def _name(pdg_id: int) -> str:
    try:
        return particle_name(pdg_id)
    except KeyError:
        return str(pdg_id)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key:{width}}  {value}" for key, value in rows)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        record: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MlgenError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise MlgenError(f"{path}: not valid JSON: {error}") from error
    if record.get("schema") != "mlgen-run":
        raise MlgenError(f"{path}: expected the record of a run")
    return record
