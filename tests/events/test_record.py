from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.core import EventBatch, PhaseSpacePoints, Resonance, SubprocessGroup
from mlgen.errors import MlgenError
from mlgen.events.check import check_file
from mlgen.events.formats import write_events
from mlgen.events.record import BWCUTOFF, UNKNOWN_SPIN, Picks, assemble
from tests.events.pythia_reading import shower_file
from tests.events.samples import eej

Z = Resonance(pdg_id=23, legs=(2, 3), mass_gev=91.188, width_gev=2.441404)
GROUP = SubprocessGroup(
    name="g u~ > e+ e- u~",
    pdg_ids=((21, -2, -11, 11, -2), (21, -4, -11, 11, -4)),
    n_orientations=2,
)


def legs_of_reference() -> tuple[Tensor, EventBatch]:
    """Momenta (n, 5, 4) of the external legs in the order of the record, and MadGraph's records."""
    _, events = eej()
    momenta = torch.stack(
        [
            event[(status != 2) & (status != 0)]
            for event, status in zip(events.momenta, events.status, strict=True)
        ]
    )
    return momenta, events


def points_of(momenta: Tensor) -> PhaseSpacePoints:
    n = len(momenta)
    return PhaseSpacePoints(
        momenta=momenta,
        x=torch.ones(n, 2, dtype=torch.float64),
        channel=torch.zeros(n, dtype=torch.int64),
        log_jac=torch.zeros(n, dtype=torch.float64),
    )


def picks_for(n: int, flavour: int = 0) -> Picks:
    """Colour and helicities that differ from leg to leg, so that a mix-up shows."""
    colour = torch.tensor([[501, 502], [0, 501], [0, 0], [0, 0], [0, 502]])
    return Picks(
        flavour=torch.full((n,), flavour),
        helicity=torch.tensor([1, -1, -1, 1, -1]).expand(n, 5),
        colour=colour.expand(n, 5, 2),
        weight=torch.arange(1, n + 1, dtype=torch.float64),
        scale=torch.full((n,), 91.188, dtype=torch.float64),
        alpha_s=torch.full((n,), 0.13, dtype=torch.float64),
    )


def record_of(momenta: Tensor, resonances: tuple[Resonance, ...] = (Z,)) -> EventBatch:
    masses = torch.zeros(momenta.shape[1], dtype=torch.float64)
    return assemble(
        points_of(momenta), GROUP, picks_for(len(momenta)), masses, 1 / 132.5, resonances
    )


def test_the_z_is_written_wherever_madgraph_writes_it_and_with_the_same_momentum() -> None:
    # MadGraph picks a diagram for each event: near the pole it writes a Z in half of them only.
    momenta, reference = legs_of_reference()
    record = record_of(momenta)
    theirs = (reference.status == 2).any(1)
    assert 80 < int(theirs.sum()) < 120
    mine, reference = record.select(theirs), reference.select(theirs)
    assert torch.equal(mine.status, reference.status)
    assert torch.equal(mine.mothers, reference.mothers)
    assert mine.pdg_id[:, 2].tolist() == reference.pdg_id[:, 2].tolist()
    torch.testing.assert_close(mine.momenta, reference.momenta, rtol=1e-8, atol=1e-7)
    torch.testing.assert_close(mine.mass[:, 2], reference.mass[:, 2], rtol=1e-6, atol=0)
    assert set(mine.spin[:, 2].tolist()) == {UNKNOWN_SPIN}
    assert not mine.colour[:, 2].any()
    assert int((record.status == 2).any(1).sum()) < 200


def test_assembled_records_make_a_file_without_faults(tmp_path: Path) -> None:
    momenta, reference = legs_of_reference()
    info, _ = eej()
    external = [(status != 2) & (status != 0) for status in reference.status]

    def legs(column: Tensor) -> Tensor:
        return torch.stack([row[mask] for row, mask in zip(column, external, strict=True)])

    flavours, flavour = torch.unique(legs(reference.pdg_id), dim=0, return_inverse=True)
    group = SubprocessGroup(
        name="p p > e+ e- j", pdg_ids=tuple(map(tuple, flavours.tolist())), n_orientations=2
    )
    picks = Picks(
        flavour=flavour,
        helicity=legs(reference.spin),
        colour=legs(reference.colour),
        weight=reference.weight,
        scale=reference.scale,
        alpha_s=reference.alpha_s,
    )
    masses = torch.zeros(5, dtype=torch.float64)
    record = assemble(points_of(momenta), group, picks, masses, 1 / 132.5, (Z,))
    write_events(tmp_path / "events.lhe.gz", [record], info)
    assert check_file(tmp_path / "events.lhe.gz").findings == ()
    reading = shower_file(tmp_path / "events.lhe.gz", n_max=50)
    assert (reading.n_ok, reading.n_failed) == (50, 0)


def test_external_masses_are_those_on_shell_and_not_rounding_errors() -> None:
    momenta, _ = legs_of_reference()
    record = record_of(momenta)
    assert not record.mass[record.status.abs() == 1].any()


def test_the_first_line_moves_along_plus_z_with_all_that_belongs_to_it() -> None:
    momenta, _ = legs_of_reference()
    straight = record_of(momenta)
    turned = momenta.clone()
    turned[::2, :2] = turned[::2, :2].flip(1)  # leg 0 is now the parton that moves along -z
    mirrored = record_of(turned)
    assert bool((mirrored.momenta[:, 0, 3] > 0).all())
    assert bool((mirrored.momenta[:, 1, 3] < 0).all())
    assert torch.equal(mirrored.momenta, straight.momenta)
    for i in (0, 2, 4):
        assert mirrored.pdg_id[i, :2].tolist() == [-2, 21]
        assert mirrored.spin[i, :2].tolist() == [-1, 1]
        assert mirrored.colour[i, :2].tolist() == [[0, 501], [501, 502]]
    for i in (1, 3, 5):
        assert mirrored.pdg_id[i, :2].tolist() == [21, -2]
    for column in ("pdg_id", "spin", "colour", "mass", "mothers", "status"):
        assert torch.equal(getattr(mirrored, column)[:, 2:], getattr(straight, column)[:, 2:])


def test_the_flavour_that_was_picked_is_written() -> None:
    momenta, _ = legs_of_reference()
    masses = torch.zeros(5, dtype=torch.float64)
    record = assemble(points_of(momenta), GROUP, picks_for(200, flavour=1), masses, 0.0075)
    assert record.pdg_id[0].tolist() == [21, -4, -11, 11, -4]
    assert record.weight.tolist() == list(range(1, 201))
    assert set(record.alpha_em.tolist()) == {0.0075}


def test_rows_that_are_not_used_are_filler() -> None:
    momenta, _ = legs_of_reference()
    record = record_of(momenta)
    filler = record.pdg_id == 0
    assert filler.any()
    for column in ("status", "mothers", "colour", "momenta", "mass", "spin"):
        assert not getattr(record, column)[filler].any()
    assert record_of(momenta, resonances=()).pdg_id.shape == (200, 5)


@pytest.mark.parametrize(
    ("widths_away", "written"), [(BWCUTOFF - 0.01, True), (BWCUTOFF + 0.01, False)]
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_resonance_is_written_within_15_widths(
    widths_away: float, written: bool, sign: int
) -> None:
    momenta, _ = legs_of_reference()
    mass = (
        (momenta[:, 2:4].sum(1) ** 2 * torch.tensor([1.0, -1, -1, -1], dtype=torch.float64))
        .sum(1)
        .sqrt()
    )
    pole = float(mass[0]) + sign * widths_away * 0.5
    near = Resonance(pdg_id=23, legs=(2, 3), mass_gev=pole, width_gev=0.5)
    record = record_of(momenta[:1], resonances=(near,))
    assert bool((record.status == 2).any()) is written


def test_a_singlet_is_not_written_over_colour_lines_that_leave_it() -> None:
    momenta, _ = legs_of_reference()
    wide = Resonance(pdg_id=23, legs=(3, 4), mass_gev=100.0, width_gev=1e4)
    assert not (record_of(momenta, resonances=(wide,)).status == 2).any()


def test_nested_resonances_name_the_innermost_as_mother() -> None:
    momenta, _ = legs_of_reference()
    uncoloured = SubprocessGroup(name="e+ e- > e+ e- mu", pdg_ids=((-11, 11, -11, 11, 13),))
    picks = picks_for(200)
    picks = Picks(
        flavour=picks.flavour,
        helicity=picks.helicity,
        colour=torch.zeros_like(picks.colour),
        weight=picks.weight,
        scale=picks.scale,
        alpha_s=picks.alpha_s,
    )
    outer = Resonance(pdg_id=25, legs=(2, 3, 4), mass_gev=125.0, width_gev=1e4)
    inner = Resonance(pdg_id=23, legs=(2, 3), mass_gev=91.0, width_gev=1e4)
    masses = torch.zeros(5, dtype=torch.float64)
    record = assemble(points_of(momenta), uncoloured, picks, masses, 0.0075, (inner, outer))
    assert record.pdg_id[0].tolist() == [-11, 11, 25, 23, -11, 11, 13]
    assert record.status[0].tolist() == [-1, -1, 2, 2, 1, 1, 1]
    assert record.mothers[0].tolist() == [[0, 0], [0, 0], [1, 2], [3, 3], [4, 4], [4, 4], [3, 3]]


# g g > t t~, t > b W+, W+ > e+ ve: the legs are g g e+ ve b t~.
TTX = SubprocessGroup(name="g g > e+ ve b t~", pdg_ids=((21, 21, -11, 12, 5, -6),))
TTX_COLOUR = ((501, 502), (502, 503), (0, 0), (0, 0), (501, 0), (0, 503))


def top_event(colour: tuple[tuple[int, int], ...] = TTX_COLOUR, top_colour: int = 3) -> EventBatch:
    """One event with a top of this colour among the resonances, and a W+ in its decay."""
    legs = torch.zeros(6, 4, dtype=torch.float64)
    legs[0] = torch.tensor([400.0, 0, 0, 400])
    legs[1] = torch.tensor([400.0, 0, 0, -400])
    legs[2] = torch.tensor([100.0, 60, 0, 80])
    legs[3] = torch.tensor([50.0, 0, 30, 40])
    legs[4] = torch.tensor([250.0, -150, 0, -200])
    legs[5] = legs[:2].sum(0) - legs[2:5].sum(0)
    w = Resonance(pdg_id=24, legs=(2, 3), mass_gev=80.0, width_gev=1e4)
    top = Resonance(pdg_id=6, legs=(2, 3, 4), mass_gev=173.0, width_gev=1e4, colour=top_colour)
    one = torch.ones(1, dtype=torch.float64)
    picks = Picks(
        flavour=torch.zeros(1, dtype=torch.int64),
        helicity=torch.zeros(1, 6, dtype=torch.int64),
        colour=torch.tensor([colour]),
        weight=one,
        scale=91.0 * one,
        alpha_s=0.1 * one,
    )
    last = legs[5]
    masses = torch.zeros(6, dtype=torch.float64)
    masses[5] = (last[0] ** 2 - last[1:].square().sum()).sqrt()
    return assemble(points_of(legs[None]), TTX, picks, masses, 0.0075, (w, top))


def test_a_top_carries_the_colour_of_its_bottom_and_is_the_mother_of_its_w(tmp_path: Path) -> None:
    event = top_event()
    assert event.pdg_id[0].tolist() == [21, 21, 6, 24, -11, 12, 5, -6]
    assert event.status[0].tolist() == [-1, -1, 2, 2, 1, 1, 1, 1]
    mothers = [[0, 0], [0, 0], [1, 2], [3, 3], [4, 4], [4, 4], [3, 3], [1, 2]]
    assert event.mothers[0].tolist() == mothers
    assert event.colour[0, 2].tolist() == [501, 0]
    assert event.colour[0, 3].tolist() == [0, 0]
    info, _ = eej()
    write_events(tmp_path / "events.lhe", [event], info)
    assert check_file(tmp_path / "events.lhe").findings == ()


def test_a_planted_wrong_colour_of_a_top_is_found_by_the_check(tmp_path: Path) -> None:
    event = top_event()
    colour = event.colour.clone()
    colour[0, 2] = torch.tensor([503, 0])
    info, _ = eej()
    write_events(tmp_path / "events.lhe", [replace(event, colour=colour)], info)
    found = [finding.what for finding in check_file(tmp_path / "events.lhe").findings]
    assert any("colour lines that close in a resonance's decay" in what for what in found)


@pytest.mark.parametrize(
    ("representation", "legs", "lines"),
    [
        (1, ((501, 502), (0, 0), (502, 501)), (0, 0)),
        (3, ((501, 502), (0, 0), (502, 0)), (501, 0)),
        (-3, ((0, 502), (0, 0), (502, 503)), (0, 503)),
        (8, ((501, 0), (0, 0), (0, 502)), (501, 502)),
        (8, ((501, 503), (503, 504), (504, 502)), (501, 502)),
    ],
)
def test_a_resonance_carries_what_leaves_its_decay_or_is_not_written(
    representation: int, legs: tuple[tuple[int, int], ...], lines: tuple[int, int]
) -> None:
    colour = ((0, 0), (0, 0), *legs, (0, 0))
    for tried in (1, 3, -3, 8, 6):
        event = top_event(colour, tried)
        tops = (event.pdg_id[0] == 6).nonzero()[:, 0]
        if tried != representation:
            assert len(tops) == 0
        else:
            assert event.colour[0, tops[0]].tolist() == list(lines)


def test_overlapping_resonances_are_refused() -> None:
    momenta, _ = legs_of_reference()
    other = Resonance(pdg_id=23, legs=(3, 4), mass_gev=91.0, width_gev=2.0)
    with pytest.raises(
        MlgenError, match=r"resonances of legs \(2, 3\) and \(3, 4\): expected legs"
    ):
        record_of(momenta, resonances=(Z, other))


def test_no_points_give_no_events() -> None:
    momenta, _ = legs_of_reference()
    assert len(record_of(momenta[:0])) == 0
    both = EventBatch.concatenate([record_of(momenta[:0]), record_of(momenta)])
    assert len(both) == 200
