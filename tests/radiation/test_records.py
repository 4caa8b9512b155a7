from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from mlgen.core import EventBatch, SampleInfo
from mlgen.errors import MlgenError
from mlgen.events.check import check_file
from mlgen.events.formats import open_writer, read_events
from mlgen.events.writing import FileWeights, in_pieces
from mlgen.physics.kinematics import mass_squared, rapidity
from mlgen.radiation.jets import JetEvents, from_cylindrical
from mlgen.radiation.records import JET, HardEvents, with_jets
from tests.integration.toys import process

BEAMS = (6500.0, 6500.0)
N = 60


@cache
def hard_events(name: str = "pp_to_eej") -> EventBatch:
    made = process(name).integrand
    rng = torch.Generator().manual_seed(1)
    n = 4000
    channel = torch.arange(n) % made.n_channels
    r = torch.rand((n, made.n_dim + made.n_flat), generator=rng, dtype=torch.float64)
    evaluation = made(r, channel)
    inside = evaluation.value.nonzero()[:N, 0]
    weight = torch.ones(len(inside), dtype=torch.float64)
    return process(name).picker(evaluation.points.select(inside), weight, rng)


def jets(n: int) -> JetEvents:
    rng = torch.Generator().manual_seed(2)
    uniform = torch.rand(4, n, 3, generator=rng, dtype=torch.float64)
    n_jets = torch.arange(n) % 4
    is_jet = torch.arange(3) < n_jets[:, None]
    pt = 20 + 80 * uniform[0].sort(dim=1, descending=True).values
    momenta = from_cylindrical(pt, 6 * uniform[1], 6 * uniform[2] - 3, 1 + 10 * uniform[3])
    hard = torch.zeros(n, 4, dtype=torch.float64)
    return JetEvents(hard=hard, jets=momenta * is_jet[..., None], n_jets=n_jets)


def test_a_hard_process_is_a_hard_object_and_partons() -> None:
    found = HardEvents.of(hard_events())
    assert found.partons.shape == (N, 1, 4)
    total = found.hard + found.partons.sum(1)
    incoming = hard_events().momenta[:, :2].sum(1)
    torch.testing.assert_close(total, incoming, rtol=1e-9, atol=1e-6)


def test_records_with_jets_hold_what_was_radiated_and_conserve_momentum() -> None:
    hard, radiated = HardEvents.of(hard_events()), jets(N)
    events, fits = with_jets(hard, radiated, BEAMS)
    assert bool(fits.all())
    total = (events.momenta * (events.status == 1)[..., None]).sum(1)
    torch.testing.assert_close(total, events.momenta[:, :2].sum(1), rtol=1e-9, atol=1e-6)
    is_jet = (events.pdg_id == JET) & (events.status == 1)
    assert is_jet.sum(1).tolist() == radiated.n_jets.tolist()
    torch.testing.assert_close(events.momenta[is_jet], radiated.jets[radiated.is_jet])
    leptons = (events.pdg_id.abs() == 11)[..., None] * events.momenta
    after = leptons.sum(1)
    torch.testing.assert_close(mass_squared(after), mass_squared(hard.hard), rtol=1e-6, atol=0)
    torch.testing.assert_close(rapidity(after), rapidity(hard.hard), rtol=0, atol=1e-6)
    assert int(events.colour.abs().max()) == 0


def test_a_resonance_stays_the_mother_of_its_products_and_moves_with_them() -> None:
    events, _ = with_jets(HardEvents.of(hard_events()), jets(N), BEAMS)
    z = (events.status == 2).nonzero()
    assert len(z) > N / 2
    for event, row in z.tolist():
        daughters = (events.mothers[event] == row + 1).all(1).nonzero()[:, 0]
        assert events.pdg_id[event, daughters].abs().tolist() == [11, 11]
        total = events.momenta[event, daughters].sum(0)
        torch.testing.assert_close(total, events.momenta[event, row], rtol=1e-9, atol=1e-6)


def test_what_is_written_passes_the_check_and_reads_back(tmp_path: Path) -> None:
    made = process("pp_to_eej")
    events, _ = with_jets(HardEvents.of(hard_events()), jets(N), BEAMS)
    info = SampleInfo(
        beams=made.beams,
        cross_section_pb=1.0,
        cross_section_error_pb=0.1,
        weighted=False,
        process="p p > e+ e- jets",
        card="",
    )
    path = tmp_path / "events.lhe"
    weights = FileWeights.of(events.weight.tolist(), info)
    with open_writer(path, info, weights) as writer:
        for piece in in_pieces([events]):
            writer.append(writer.encode(piece))
    report = check_file(path)
    assert report.is_good, report.findings
    assert torch.equal(read_events(path)[1].pdg_id, events.pdg_id)


def test_a_parton_of_the_beam_that_has_too_much_energy_does_not_fit() -> None:
    _, fits = with_jets(HardEvents.of(hard_events()), jets(N), (200.0, 200.0))
    assert 0 < int(fits.sum()) < N


def test_without_a_hard_object_there_is_nothing_to_radiate_from() -> None:
    events = hard_events()
    quarks = events.pdg_id.where(events.pdg_id.abs() != 11, 2)
    with pytest.raises(MlgenError, match="without a colourless final particle"):
        HardEvents.of(replace(events, pdg_id=quarks))


def test_a_coloured_resonance_is_refused() -> None:
    events = hard_events()
    top = events.pdg_id.where(events.status != 2, 6)
    with pytest.raises(MlgenError, match="coloured resonance"):
        HardEvents.of(replace(events, pdg_id=top))
