"""Further weights of accepted events: other scales and other parton densities.

|M|² is proportional to a power p of alpha_s, so that an event with incoming flavours (a, b) weighs,
with the scales k_r mu_r and k_f mu_f and the densities f',

    w' / w = [alpha_s(k_r mu_r) / alpha_s(mu_r)]^p
             f'_a(x1, k_f mu_f) f'_b(x2, k_f mu_f) / [f_a(x1, mu_f) f_b(x2, mu_f)],

and no matrix element is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlgen.cards import PdfCard, WeightsCard
from mlgen.core import PartonDensity, RunningCoupling, SubprocessGroup, Variation
from mlgen.errors import NonFiniteWeight
from mlgen.physics.pdf import find_set, read_grid

SCALES = "scale_variations"
MEMBERS = "pdf_members"
"""Groups of variations: names without spaces, which are passed on to HepMC."""

HADRON_POINTS = ((1.0, 1.0), (0.5, 0.5), (0.5, 1.0), (1.0, 0.5), (1.0, 2.0), (2.0, 1.0), (2.0, 2.0))
"""(k_r, k_f) of the seven points, the nominal one first."""
LEPTON_POINTS = ((1.0, 1.0), (0.5, 1.0), (2.0, 1.0))
"""Without parton densities nothing depends on mu_f."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reweighting:
    """Variations, and the densities that they are made with."""

    variations: tuple[Variation, ...] = ()
    densities: Mapping[int, PartonDensity] = field(default_factory=dict)
    """By LHAPDF id, the nominal one among them; empty for lepton beams."""
    nominal_pdf_id: int = 0

    def ratios(
        self,
        group: SubprocessGroup,
        flavour: Tensor,
        x: Tensor,
        scales: tuple[Tensor, Tensor],
        coupling: RunningCoupling,
    ) -> Tensor:
        """w'/w of events of one group, (n, n_variations).

        Flavours were picked in proportion to their part of the nominal weight, which therefore is
        not 0. Those that the nominal density forbids at a point, as a fitted density may where it
        is zero or slightly negative (1e-8 of the luminosity in NNPDF2.3), are never picked, and
        what a variation would give them is missing from it. An event whose nominal luminosity is
        0 all the same gets the ratio 0 where only its luminosity is varied, 1 where it is not. A
        ratio is negative where a variation turns the sign of the luminosity.

        alpha_s is that of the card for all densities, whatever value a member was fitted with.
        Below its grid in Q a density is that at the edge.

        Args:
            group: the flavours of the legs.
            flavour: (n,), int64, which assignment of the group was picked.
            x: (n, 2), the momentum fractions of legs 0 and 1.
            scales: the nominal mu_r and mu_f, each (n,), GeV.
            coupling: alpha_s.

        Raises:
            NonFiniteWeight: a varied mu_r lies below the Landau pole of alpha_s.
        """
        mu_r, mu_f = scales
        columns = []
        luminosities = _Luminosities(self.densities, group, flavour, x, mu_f)
        nominal = luminosities(self.nominal_pdf_id, 1.0)
        for variation in self.variations:
            ratio = _coupling_ratio(variation, group.qcd_order, mu_r, coupling)
            is_nominal = (variation.pdf_id, variation.mu_f_factor) == (self.nominal_pdf_id, 1.0)
            if self.densities and not is_nominal:
                varied = luminosities(variation.pdf_id, variation.mu_f_factor)
                possible = nominal != 0
                ratio = ratio * torch.where(possible, varied, 0.0) / nominal.where(possible, 1.0)
            columns.append(ratio)
        return torch.stack(columns, dim=1) if columns else mu_r.new_empty((len(mu_r), 0))


def _coupling_ratio(
    variation: Variation, power: int, mu_r: Tensor, coupling: RunningCoupling
) -> Tensor:
    """[alpha_s(k_r mu_r) / alpha_s(mu_r)]^power, exactly 1 where nothing depends on k_r."""
    if variation.mu_r_factor == 1 or power == 0:
        return torch.ones_like(mu_r)
    varied = variation.mu_r_factor * mu_r
    ratio = coupling(varied.square()) / coupling(mu_r.square())
    broken = ~(ratio.isfinite() & (ratio > 0))
    if bool(broken.any()):
        scale = float(varied[broken][0])
        raise NonFiniteWeight(
            f"alpha_s at mu_r = {scale:.6g} GeV, of {variation.name}: expected a scale above its "
            "Landau pole (GeV); raise scales.factor, or set weights.scale_variations = false"
        )
    return ratio.pow(power)


class _Luminosities:
    """f_a(x1, k mu_f) f_b(x2, k mu_f) of events with known flavours, each computed once."""

    def __init__(
        self,
        densities: Mapping[int, PartonDensity],
        group: SubprocessGroup,
        flavour: Tensor,
        x: Tensor,
        mu_f: Tensor,
    ) -> None:
        self._densities = densities
        self._x, self._mu_f = x, mu_f
        self._known: dict[tuple[int, float], Tensor] = {}
        self._ids: list[list[int]] = []
        self._columns: list[Tensor] = []
        for leg in (0, 1):
            ids = [assignment[leg] for assignment in group.pdg_ids]
            distinct = sorted(set(ids))
            column = torch.tensor([distinct.index(i) for i in ids], device=flavour.device)
            self._ids.append(distinct)
            self._columns.append(column[flavour][:, None])

    def __call__(self, pdf_id: int, factor: float) -> Tensor:
        """(n,), up to 1 / (x1 x2), which cancels in ratios; 1 without densities."""
        if not self._densities:
            return torch.ones_like(self._mu_f)
        key = (pdf_id, factor)
        if key not in self._known:
            q2 = (factor * self._mu_f).square()
            one, other = (
                self._densities[pdf_id]
                .xfx(self._ids[leg], self._x[:, leg].contiguous(), q2)
                .gather(1, self._columns[leg])[:, 0]
                for leg in (0, 1)
            )
            self._known[key] = one * other
        return self._known[key]


def read_variations(
    weights: WeightsCard, pdf: PdfCard, nominal: PartonDensity | None
) -> Reweighting:
    """The variations that a card asks for: the scales first, then the members, each once.

    Args:
        weights: the card's section.
        pdf: the set whose members are read.
        nominal: its nominal member; None for lepton beams, which have no members, and for which
            only mu_r is varied.

    Raises:
        MissingExtra, MlgenError: a member is not there or cannot be read.
    """
    points = HADRON_POINTS if nominal is not None else LEPTON_POINTS
    nominal_id = pdf.lhapdf_id + pdf.member if nominal is not None else 0
    found = [(SCALES, *point, nominal_id) for point in points if weights.scale_variations]
    densities: dict[int, PartonDensity] = {}
    if nominal is not None:
        densities[nominal_id] = nominal
        for member in weights.pdf_members:
            pdf_id = pdf.lhapdf_id + member
            if pdf_id not in densities:
                densities[pdf_id] = read_grid(find_set(pdf.set, member))
            found.append((MEMBERS, 1.0, 1.0, pdf_id))
    variations: dict[str, Variation] = {}
    for group, mu_r_factor, mu_f_factor, pdf_id in found:
        variation = Variation(
            name=variation_name(mu_r_factor, mu_f_factor, pdf_id),
            group=group,
            mu_r_factor=mu_r_factor,
            mu_f_factor=mu_f_factor,
            pdf_id=pdf_id,
        )
        variations.setdefault(variation.name, variation)
    return Reweighting(
        variations=tuple(variations.values()), densities=densities, nominal_pdf_id=nominal_id
    )


def variation_name(mu_r_factor: float, mu_f_factor: float, pdf_id: int) -> str:
    """The name of a weight by the convention of arXiv:2203.08230: `key=value`, joined by `__`.

    >>> variation_name(0.5, 1.0, 247000)
    'MUR=0.5__MUF=1__LHAPDF=247000'
    """
    density = f"__LHAPDF={pdf_id}" if pdf_id else ""
    return f"MUR={mu_r_factor:g}__MUF={mu_f_factor:g}{density}"
