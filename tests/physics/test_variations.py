from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from mlgen.cards import AlphaSCard, PdfCard, WeightsCard
from mlgen.core import SubprocessGroup, Variation
from mlgen.errors import MissingExtra, NonFiniteWeight
from mlgen.physics.alpha_s import AlphaS
from mlgen.physics.variations import MEMBERS, SCALES, Reweighting, read_variations

GROUP = SubprocessGroup(
    name="u u~ > e+ e- g",
    pdg_ids=((2, -2, -11, 11, 21), (21, 4, -11, 11, 4), (-2, 2, -11, 11, 21)),
    n_orientations=2,
    qcd_order=2,
)
ALL = WeightsCard(scale_variations=True)


@dataclass(frozen=True)
class Powers:
    """x f = norm (1 + id) x^a Q²^(b id), a different function for each flavour."""

    norm: float = 1.0

    def xfx(self, pdg_ids: Sequence[int], x: Tensor, q2: Tensor) -> Tensor:
        columns = [self.one(pdg_id, x, q2) for pdg_id in pdg_ids]
        return torch.tensor(columns, dtype=torch.float64).T.contiguous()

    def one(self, pdg_id: int, x: Tensor, q2: Tensor) -> list[float]:
        return [
            self.norm * (3 + pdg_id) * math.pow(a, 0.1 * pdg_id) * math.pow(b, 0.01 * pdg_id)
            for a, b in zip(x.tolist(), q2.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class Table:
    """The same densities everywhere, by flavour."""

    values: dict[int, float]

    def xfx(self, pdg_ids: Sequence[int], x: Tensor, q2: Tensor) -> Tensor:
        row = torch.tensor([self.values[i] for i in pdg_ids], dtype=torch.float64)
        return row.expand(len(x), -1)


def ratios_of(
    reweighting: Reweighting, group: SubprocessGroup = GROUP, mu_gev: float = 91.188
) -> Tensor:
    """The ratios of one event of each flavour, with mu_f = 2 mu_r."""
    n = len(group.pdg_ids)
    x = torch.tensor([[0.1, 0.02], [0.3, 0.004], [0.01, 0.7]], dtype=torch.float64)[:n]
    mu_r = torch.full((n,), mu_gev, dtype=torch.float64)
    coupling = AlphaS(AlphaSCard())
    return reweighting.ratios(group, torch.arange(n), x, (mu_r, 2 * mu_r), coupling)


def test_there_are_seven_points_named_by_the_convention_with_the_nominal_one_first() -> None:
    variations = read_variations(ALL, PdfCard(), Powers()).variations
    assert [v.name for v in variations] == [
        "MUR=1__MUF=1__LHAPDF=247000",
        "MUR=0.5__MUF=0.5__LHAPDF=247000",
        "MUR=0.5__MUF=1__LHAPDF=247000",
        "MUR=1__MUF=0.5__LHAPDF=247000",
        "MUR=1__MUF=2__LHAPDF=247000",
        "MUR=2__MUF=1__LHAPDF=247000",
        "MUR=2__MUF=2__LHAPDF=247000",
    ]
    assert {v.group for v in variations} == {SCALES}
    factors = {(v.mu_r_factor, v.mu_f_factor) for v in variations}
    square = {(r, f) for r in (0.5, 1, 2) for f in (0.5, 1, 2)}
    assert factors == square - {(0.5, 2), (2, 0.5)}


def test_lepton_beams_have_no_density_to_vary() -> None:
    reweighting = read_variations(
        WeightsCard(scale_variations=True, pdf_members=(1,)), PdfCard(), None
    )
    assert [v.name for v in reweighting.variations] == [
        "MUR=1__MUF=1",
        "MUR=0.5__MUF=1",
        "MUR=2__MUF=1",
    ]
    leptons = SubprocessGroup(name="e+ e- > u u~ g", pdg_ids=((-11, 11, 2, -2, 21),), qcd_order=1)
    alpha_s = AlphaS(AlphaSCard())(torch.tensor([1.0, 0.25, 4.0]).double() * 91.188**2)
    expected = (alpha_s / alpha_s[0])[None]
    torch.testing.assert_close(ratios_of(reweighting, leptons), expected, rtol=1e-14, atol=0)


def test_nothing_is_varied_unless_the_card_asks() -> None:
    assert read_variations(WeightsCard(), PdfCard(), Powers()).variations == ()
    assert ratios_of(Reweighting()).shape == (3, 0)


def test_the_ratios_are_those_of_a_slow_recomputation() -> None:
    reweighting = read_variations(ALL, PdfCard(), Powers())
    got = ratios_of(reweighting)
    x = [[0.1, 0.02], [0.3, 0.004], [0.01, 0.7]]
    alpha_s = AlphaS(AlphaSCard())

    def weight(event: int, k_r: float, k_f: float) -> float:
        q2 = torch.tensor([(k_f * 2 * 91.188) ** 2], dtype=torch.float64)
        product = 1.0
        for leg in (0, 1):
            at = torch.tensor([x[event][leg]], dtype=torch.float64)
            product *= Powers().one(GROUP.pdg_ids[event][leg], at, q2)[0]
        return product * float(alpha_s(torch.tensor((k_r * 91.188) ** 2, dtype=torch.float64))) ** 2

    expected = [
        [
            weight(event, v.mu_r_factor, v.mu_f_factor) / weight(event, 1, 1)
            for v in reweighting.variations
        ]
        for event in range(3)
    ]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=0)
    assert torch.equal(got[:, 0], torch.ones(3, dtype=torch.float64))
    assert float((got[0] - got[1]).abs().max()) > 0.1, "the flavours must tell"


@pytest.mark.parametrize("power", [0, 1, 3])
def test_mu_r_enters_by_the_power_of_alpha_s_alone(power: int) -> None:
    group = replace(GROUP, qcd_order=power)
    ratios = ratios_of(read_variations(ALL, PdfCard(), Powers()), group)
    ratio = ratios[:, 2]  # mu_r / 2
    alpha_s = AlphaS(AlphaSCard())(torch.tensor([0.25, 1.0]).double() * 91.188**2)
    expected = float(alpha_s[0] / alpha_s[1]) ** power
    assert ratio.tolist() == pytest.approx([expected] * 3, rel=1e-14)
    if power == 0:
        assert torch.equal(ratios[:, 2], torch.ones(3, dtype=torch.float64))
        assert torch.equal(ratios[:, 1], ratios[:, 3]), "only mu_f is left"


def two_members(nominal: dict[int, float], other: dict[int, float]) -> Reweighting:
    names = ((1.0, 247000), (1.0, 247001), (2.0, 247001))
    variations = tuple(
        Variation(name=f"{factor}{pdf}", group=MEMBERS, mu_f_factor=factor, pdf_id=pdf)
        for factor, pdf in names
    )
    densities = {247000: Table(nominal), 247001: Table(other)}
    return Reweighting(variations=variations, densities=densities, nominal_pdf_id=247000)


def test_a_member_multiplies_by_the_densities_of_both_flavours() -> None:
    reweighting = two_members(
        {2: 1.0, -2: 1.0, 21: 1.0, 4: 1.0}, {2: 2.0, -2: 3.0, 21: 5.0, 4: 7.0}
    )
    assert ratios_of(reweighting).tolist() == [[1, 6, 6], [1, 35, 35], [1, 6, 6]]


@pytest.mark.parametrize("charm", [0.0, -1e-8, 1e-300])
def test_a_density_that_is_zero_or_negative_gives_no_nan(charm: float) -> None:
    reweighting = two_members(
        {2: 1.0, -2: 1.0, 21: 1.0, 4: charm}, {2: 1.0, -2: 1.0, 21: 1.0, 4: 1e-9}
    )
    ratios = ratios_of(reweighting)
    assert bool(ratios.isfinite().all())
    assert ratios[0].tolist() == [1, 1, 1]
    # What cannot be reweighted stays as it is in the nominal column, and is nothing in another.
    expected = 1e-9 / charm if charm else 0.0
    assert ratios[1].tolist() == pytest.approx([1, expected, expected], rel=1e-12)


def test_a_scale_below_the_landau_pole_is_named() -> None:
    reweighting = read_variations(ALL, PdfCard(), Powers())
    with pytest.raises(
        NonFiniteWeight, match=r"alpha_s at mu_r = 0\.35 GeV, of MUR=0\.5__MUF=0\.5.*Landau pole"
    ):
        ratios_of(reweighting, mu_gev=0.7)
    without = ratios_of(reweighting, replace(GROUP, qcd_order=0), mu_gev=0.7)
    assert bool(without.isfinite().all()), "nothing depends on alpha_s"


def test_members_are_named_by_the_id_of_the_set_plus_their_number_and_each_once() -> None:
    card = PdfCard(set="none", member=3, lhapdf_id=1000)
    weights = WeightsCard(scale_variations=True, pdf_members=(3, 3))
    variations = read_variations(weights, card, Powers()).variations
    assert {v.pdf_id for v in variations} == {1003}
    assert len(variations) == 7, "the nominal member is there already"
    alone = read_variations(WeightsCard(pdf_members=(3, 3)), card, Powers()).variations
    assert [(v.name, v.group) for v in alone] == [("MUR=1__MUF=1__LHAPDF=1003", MEMBERS)]


def test_a_member_that_is_missing_is_named_before_anything_runs() -> None:
    with pytest.raises(MissingExtra, match=r"NoSuchSet_0007\.dat"):
        read_variations(WeightsCard(pdf_members=(7,)), PdfCard(set="NoSuchSet"), Powers())
