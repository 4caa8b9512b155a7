from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.amplitudes import closed_form
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.core import SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.physics.kinematics import boost, mass
from mlgen.surrogates.ansatz import PoleAnsatz, ansatz_powers
from mlgen.surrogates.invariants import pair_products
from tests.surrogates.toys import GGG, MODEL, ZGG, flat_points, products


def ansatz(group: SubprocessGroup, momenta: Tensor) -> Tensor:
    masses = [MODEL.mass_gev(pdg_id) for pdg_id in group.pdg_ids[0]]
    log_products = pair_products(momenta.permute(2, 1, 0), masses).log()
    log_ansatz: Tensor = PoleAnsatz(ansatz_powers(group, MODEL))(log_products)
    return log_ansatz.exp()


def group_of(*pdg_ids: int) -> SubprocessGroup:
    return SubprocessGroup(name="", pdg_ids=(pdg_ids,))


def test_a_quark_line_has_its_antennae() -> None:
    momenta = flat_points(ZGG, 100, seed=1)
    s = products(momenta)
    # d~ and d are incoming: leg 1 ends the line that leg 0 begins.
    expected = sum(s[0, 1] / (s[0, i] * s[i, j] * s[j, 1]) for i, j in ((3, 4), (4, 3)))
    torch.testing.assert_close(ansatz(ZGG, momenta), expected * s[0, 1], rtol=1e-9, atol=0)


def test_gluons_alone_have_the_parke_taylor_sum() -> None:
    momenta = flat_points(GGG, 100, seed=2)
    s = products(momenta)
    quartic = sum(s[pair].pow(4) for pair in itertools.combinations(range(5), 2))
    rings = [(0, *order) for order in itertools.permutations(range(1, 5))]
    # Each ring comes twice, once in each sense.
    cyclic = sum(
        0.5 / torch.stack([s[ring[k - 1], ring[k]] for k in range(5)]).prod(0) for ring in rings
    )
    torch.testing.assert_close(ansatz(GGG, momenta), quartic * cyclic, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("pdg_ids", "n_terms"),
    [
        ((11, -11, 13, -13), 1),  # no colour
        ((1, -1, 11, -11), 1),
        ((21, 21, 6, -6, 21, 21), 24 * 8),
        ((21, 21, 21, 21), 3 * 6),
        ((2, 1, 2, 1, 21), 2),  # flavour tells which antiquark ends which line
        ((2, 2, 2, 2, 21), 4),
        ((1, -1, 2, -2, 3, -3), 1),  # three lines: nothing is known
    ],
)
def test_the_terms_are_counted(pdg_ids: tuple[int, ...], n_terms: int) -> None:
    powers = ansatz_powers(group_of(*pdg_ids), MODEL)
    assert len(powers.orders) * len(powers.numerator) == n_terms
    dimension = powers.orders.sum(1)[:, None] + powers.numerator.sum(1)
    assert (dimension == 4 - len(pdg_ids)).all(), "that of |M|²"


def test_unequal_quarks_exchange_a_gluon_in_one_channel_alone() -> None:
    group = group_of(2, 1, 2, 1)
    momenta = flat_points(group, 100, seed=3)
    s = products(momenta)
    torch.testing.assert_close(
        ansatz(group, momenta), s[0, 1].square() / s[0, 2].square(), rtol=1e-9, atol=0
    )


def test_the_ratio_to_the_matrix_element_stays_finite_where_a_gluon_is_soft() -> None:
    group = SubprocessGroup(
        name="u u~ > e+ e- g", pdg_ids=((2, -2, -11, 11, 21),), qcd_order=1, qed_order=2
    )
    request = AmplitudeRequest(groups=(group,), model=MODEL, cache_folder=Path())
    amplitude = closed_form.provide(request, SilentProgress())
    # The soft gluon recoils against a pair of leptons at rest but for that.
    energy = torch.logspace(-6, 1, 8, dtype=torch.float64)
    momenta = with_gluon(energy)
    value = amplitude(momenta, torch.ones_like(energy), 0).value
    ratio = value / ansatz(group, momenta)
    torch.testing.assert_close(ratio[:-1], ratio[0].expand(7), rtol=0.02, atol=0)
    assert float(value[0] / value[-1]) > 1e10, "the control: |M|² itself does not"


def with_gluon(energy: Tensor) -> Tensor:
    """u u~ > e+ e- g at 1 TeV, the gluon at a fixed angle with these energies in GeV, (n,)."""
    direction = torch.tensor([1.0, 0.6, 0.0, 0.8], dtype=torch.float64)
    gluon = energy[:, None] * direction
    beams = torch.tensor([[500.0, 0, 0, 500], [500.0, 0, 0, -500]], dtype=torch.float64)
    pair = beams.sum(0) - gluon
    half = 0.5 * mass(pair)
    axis = torch.tensor([1.0, 0.0, 0.6, 0.8], dtype=torch.float64)
    reflected = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    leptons = [boost(half[:, None] * axis * side, pair) for side in (torch.ones(4), reflected)]
    return torch.stack([*beams.expand(len(energy), 2, 4).unbind(1), *leptons, gluon], dim=1)


def test_a_quark_line_among_gluons_has_their_products_too() -> None:
    group = group_of(21, 21, 6, -6, 21)
    momenta = flat_points(group, 100, seed=5)
    s = products(momenta)
    gluons = (0, 1, 4)
    mixed = sum(s[2, i].pow(3) * s[3, i] + s[3, i].pow(3) * s[2, i] for i in gluons)
    antennae = sum(
        s[2, 3] / (s[2, i] * s[i, j] * s[j, k] * s[k, 3])
        for i, j, k in itertools.permutations(gluons)
    )
    torch.testing.assert_close(
        ansatz(group, momenta), mixed * antennae / s[2, 3].square(), rtol=1e-9, atol=0
    )


def test_a_quark_and_a_gluon_scatter_as_the_textbook_says() -> None:
    group = group_of(1, 21, 1, 21)
    momenta = flat_points(group, 200, seed=6)
    s = products(momenta)
    s_hat, t, u = s[0, 1], -s[0, 2], -s[0, 3]
    # Without its constants; table 7.1 of Ellis, Stirling and Webber.
    exact = (s_hat.square() + u.square()) * (1 / t.square() - 4 / 9 / (s_hat * u))
    ratio = exact / ansatz(group, momenta)
    assert float(ratio.log().std()) < 0.5
    assert float(exact.log().std()) > 1.2, "the control"
