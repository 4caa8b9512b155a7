"""From a card to wired objects: the only file that imports every room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from mlgen.amplitudes.provider import AmplitudeRequest, provide
from mlgen.cards import Card
from mlgen.core import BeamInfo, OneHelicity, PhaseSpace, Progress, SubprocessGroup
from mlgen.errors import CardError
from mlgen.integration.channel_features import ChannelFeatures
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.picking import EventPicker
from mlgen.phasespace.channels import Setting, build_phase_space
from mlgen.phasespace.rambo import build_rambo
from mlgen.physics.alpha_s import AlphaS
from mlgen.physics.bounds import CutBounds
from mlgen.physics.cuts import CardCuts
from mlgen.physics.leg_cuts import particle_kinds, split_by_cuts
from mlgen.physics.model import Model
from mlgen.physics.pdf import find_set, read_grid
from mlgen.physics.process import beam_pdg_id, read_process
from mlgen.physics.scales import CardScales
from mlgen.physics.ufo import read_model
from mlgen.physics.variations import read_variations
from mlgen.samplers.registry import check_sampler_name
from mlgen.surrogates.methods import check_method_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """All that a card stands for, ready to be sampled."""

    card: Card
    integrand: ProcessIntegrand
    picker: EventPicker
    beams: tuple[BeamInfo, BeamInfo]
    provider: str
    """The matrix-element provider; where the card says `auto`, the one that was found."""


def build(card: Card, progress: Progress) -> Process:
    """Read the process, find its densities and prepare its matrix element.

    Raises:
        CardError, ProcessError: the card asks for what cannot be.
        MissingExtra: a grid or a library is not there.
        UnsupportedProcess, MatrixElementError: there is no such matrix element.
    """
    if card.run.sampler != "auto":
        check_sampler_name(card.run.sampler)
    check_method_name(card.surrogate.method)
    model = read_model(card.model)
    found = read_process(card.process, card.beams.particles, model)
    groups, kinds = split_by_cuts(found, card.cuts, model), particle_kinds(model)
    hadronic = _is_hadronic(card)
    phase_space = phase_space_of(card, groups, model)
    density = read_grid(find_set(card.pdf.set, card.pdf.member)) if hadronic else None
    folder = card.matrix_element.cache_folder
    request = AmplitudeRequest(
        groups=groups,
        model=model,
        cache_folder=Path(folder) if folder else user_cache_path("mlgen") / "matrix_elements",
        function=card.matrix_element.function,
        library=card.matrix_element.library,
    )
    provider, amplitude = provide(card.matrix_element.provider, request, progress)
    if card.surrogate.helicities == "drawn" and not isinstance(amplitude, OneHelicity):
        raise CardError(
            f"surrogate.helicities = 'drawn': expected 'auto' or 'all' with the matrix element of "
            f"{provider}, which has no single helicities"
        )
    integrand = ProcessIntegrand(
        groups=groups,
        phase_space=phase_space,
        cut=CardCuts(card.cuts, groups, kinds),
        scales=CardScales(card.scales, groups, kinds),
        density=density,
        coupling=AlphaS(card.alpha_s),
        amplitude=amplitude,
        channel_features=_channel_features(card, groups, phase_space),
        drop_below=card.phase_space.drop_below,
    )
    first, second = (
        BeamInfo(
            pdg_id=beam_pdg_id(name),
            energy_gev=energy,
            pdf_id=card.pdf.lhapdf_id + card.pdf.member if hadronic else 0,
        )
        for name, energy in zip(card.beams.particles, card.beams.energies_gev, strict=True)
    )
    return Process(
        card=card,
        integrand=integrand,
        picker=EventPicker(
            integrand=integrand,
            amplitude=amplitude,
            model=model,
            reweighting=read_variations(card.weights, card.pdf, density),
        ),
        beams=(first, second),
        provider=provider,
    )


def _channel_features(
    card: Card, groups: Sequence[SubprocessGroup], phase_space: PhaseSpace
) -> ChannelFeatures | None:
    if not card.phase_space.learned_weights or phase_space.n_shares == 1:
        return None
    return ChannelFeatures(groups, phase_space.n_shares)


def phase_space_of(card: Card, groups: Sequence[SubprocessGroup], model: Model) -> PhaseSpace:
    """The channels of a card's groups.

    Raises:
        CardError: the beams have too little energy for a final state inside the cuts.
    """
    hadronic = _is_hadronic(card)
    bounds = CutBounds(card.cuts, particle_kinds(model))
    if card.phase_space.maps == "rambo":
        least = min(
            bounds.min_event_mass(ids, [model.mass_gev(p) for p in ids])
            for ids in (group.pdg_ids[0][2:] for group in groups)
        )
        return build_rambo(groups, model, card.beams.energies_gev, hadronic, least)
    setting = Setting(
        model=model,
        cuts=bounds,
        energies_gev=card.beams.energies_gev,
        hadronic=hadronic,
        prior=card.phase_space.prior,
    )
    return build_phase_space(groups, setting)


def _is_hadronic(card: Card) -> bool:
    hadronic = [name == "p" for name in card.beams.particles]
    if any(hadronic) and not all(hadronic):
        raise CardError(
            f"beams.particles = {list(card.beams.particles)}: expected two protons or two leptons"
        )
    if all(hadronic) and card.beams.energies_gev[0] != card.beams.energies_gev[1]:
        raise CardError(
            f"beams.energies_gev = {list(card.beams.energies_gev)}: expected equal energies in GeV "
            "for two protons"
        )
    return all(hadronic)
