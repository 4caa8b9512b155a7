from __future__ import annotations

import torch

from mlgen.amplitudes.probe_points import probe_points
from mlgen.amplitudes.relabelling import canonical_relabelling

SELF_CONJUGATE = frozenset((21, 22, 23, 25))


def test_orders_and_conjugates_of_a_process_have_one_representative() -> None:
    alike = [(21, 2, -11, 11, 2), (2, 21, 11, 2, -11), (21, -2, -11, 11, -2), (-2, 21, 11, -2, -11)]
    found = {canonical_relabelling(ids, SELF_CONJUGATE, has_cp=True).pdg_ids for ids in alike}
    assert len(found) == 1
    others = [(21, 1, -11, 11, 1), (2, -2, -11, 11, 21), (21, 2, -13, 13, 2)]
    found |= {canonical_relabelling(ids, SELF_CONJUGATE, has_cp=True).pdg_ids for ids in others}
    assert len(found) == 4


def test_without_cp_a_process_and_its_conjugate_are_two() -> None:
    pair = [(21, 2, -11, 11, 2), (21, -2, -11, 11, -2)]
    found = [canonical_relabelling(ids, SELF_CONJUGATE, has_cp=False) for ids in pair]
    assert len({relabelling.pdg_ids for relabelling in found}) == 2
    assert not any(relabelling.is_conjugated for relabelling in found)


def test_each_leg_keeps_its_momentum_its_helicity_and_its_colour() -> None:
    pdg_ids = (-2, 21, 11, -2, -11)
    relabelling = canonical_relabelling(pdg_ids, SELF_CONJUGATE, has_cp=True)
    assert relabelling.is_conjugated
    momenta = probe_points([0.0] * 5, 3)
    moved = relabelling.momenta(momenta)
    helicities = torch.tensor([[1, 2, 3, 4, 5]])
    flows = torch.tensor([[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]])
    for there, here in enumerate(relabelling.order):
        pdg_id = relabelling.pdg_ids[there]
        assert pdg_id == (pdg_ids[here] if pdg_id in SELF_CONJUGATE else -pdg_ids[here])
        torch.testing.assert_close(moved[:, there, 0], momenta[:, here, 0])
        torch.testing.assert_close(moved[:, there, 1:], -momenta[:, here, 1:])
        assert relabelling.helicities(helicities)[0, here] == -helicities[0, there]
        assert relabelling.colour_flows(flows)[0, here].tolist() == flows[0, there].flip(0).tolist()
