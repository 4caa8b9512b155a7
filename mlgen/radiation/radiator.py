"""Jets for the events of a hard process: drawn from a model, given the hard object and its partons."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mlgen.core import EventBatch
from mlgen.errors import GenerationError, MlgenError
from mlgen.physics.kinematics import eta, mass_squared, phi, pt, rapidity
from mlgen.radiation.jets import JetEvents, from_cylindrical, from_rapidity
from mlgen.radiation.learned import LearnedRadiation
from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.past import Past
from mlgen.radiation.records import HardEvents, with_jets
from mlgen.radiation.representation import LOG_M2, N_COLUMNS, PHI, Particles
from mlgen.radiation.sampling import sample

MOST_TRIES = 100
"""Jets that the beams have no energy for are drawn again so often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Radiated:
    """Events with jets."""

    events: EventBatch
    """Its last columns of `variations` are the weights of the members, if there are several."""
    n_redrawn: int
    """Jets that the beams had no energy for, and that were drawn again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Radiator:
    """Adds jets to events of a hard process.

    A hard object first gets the transverse momentum that all radiation leaves it with; where the process has
    a parton, that is the first jet, and gets a mass. Then jets are drawn until there are no
    more, each event's from one member of the ensemble. The weight of an event stays what it is. Each
    member gives it another one, the density of its jets over the mean of all members:
    what a histogram makes of those is an error of the model.
    """

    radiation: LearnedRadiation
    beam_energies: tuple[float, float]
    """GeV."""
    max_jets: int = 10

    def __call__(self, events: EventBatch, rng: torch.Generator) -> Radiated:
        """Radiate from events.

        Raises:
            MlgenError: the events are not of a hard object and partons above the model's pt_min.
            GenerationError: no jets were found that the beams have the energy for.
        """
        process = HardEvents.of(events)
        found, weights = self._drawn(process, rng)
        batch, fits = with_jets(process, found, self.beam_energies)
        n_redrawn = tries = 0
        while not bool(fits.all()):
            tries += 1
            if tries > MOST_TRIES:
                raise GenerationError(
                    f"jets of {int((~fits).sum())} events: expected some that beams of "
                    f"{self.beam_energies} GeV have the energy for, in {MOST_TRIES} tries"
                )
            again = (~fits).nonzero()[:, 0]
            n_redrawn += len(again)
            part, part_weights = self._drawn(process.select(again), rng)
            found, weights = _put(found, again, part), weights.index_put((again,), part_weights)
            batch, fits = with_jets(process, found, self.beam_energies)
        if weights.shape[1] == 1:
            return Radiated(events=batch, n_redrawn=n_redrawn)
        of_members = events.weight[:, None] * weights
        variations = torch.cat([events.variations, of_members], dim=1)
        return Radiated(events=replace(batch, variations=variations), n_redrawn=n_redrawn)

    def _drawn(self, process: HardEvents, rng: torch.Generator) -> tuple[JetEvents, Tensor]:
        """Jets of a hard process, and each member's density over the mean (n, n_members)."""
        given = self._given(process, rng)
        members = self.radiation.ensemble.members
        member = torch.randint(len(members), (len(process),), generator=rng)
        n_given = given.columns.shape[1] - 1
        columns = torch.zeros(len(process), 1 + self.max_jets, N_COLUMNS, dtype=torch.float64)
        n_jets = torch.zeros(len(process), dtype=torch.int64)
        for number, network in enumerate(members):
            index = (member == number).nonzero()[:, 0]
            massive = with_masses(network, given.select(index), rng)
            drawn = sample(network, massive, rng, self.max_jets)
            columns[index, : drawn.columns.shape[1]] = drawn.columns
            n_jets[index] = drawn.n_jets
        most = int(n_jets.max()) if len(process) else 0
        drawn = replace(given, columns=columns[:, : 1 + most], n_jets=n_jets)
        log_prob = torch.stack([log_prob_after(net, drawn, n_given) for net in members], dim=1)
        weights = (log_prob - log_prob.logsumexp(1, keepdim=True)).exp() * len(members)
        return self.radiation.representation.decode(drawn), weights

    def _given(self, process: HardEvents, rng: torch.Generator) -> Particles:
        """What jets follow: the hard object as radiation leaves it, and partons, whose masses are still to be drawn."""
        learned, n = self.radiation, len(process)
        partons, n_partons = process.partons, process.partons.shape[1]
        pt_min = learned.representation.pt_min
        if n_partons > 1:
            raise MlgenError(f"{n_partons} partons beside the hard object: expected none or one")
        if n_partons and n and float(pt(partons).min()) <= pt_min:
            raise MlgenError(
                f"parton with pt = {float(pt(partons).min()):g}: expected more than {pt_min:g} GeV, as "
                "jets have that the model has learned from"
            )
        # Any transverse momentum and any mass of a jet will do: others are drawn.
        mass = mass_squared(process.hard).sqrt()
        azimuth = 2 * math.pi * torch.rand(n, generator=rng, dtype=torch.float64)
        hard = from_rapidity(torch.ones_like(mass), azimuth, rapidity(process.hard), mass)
        one = torch.ones_like(partons[..., 0])
        massive = from_cylindrical(pt(partons), phi(partons), eta(partons), one)
        events = JetEvents(hard=hard, jets=massive, n_jets=torch.full((n,), n_partons))
        given = learned.representation.encode(events)
        columns = given.columns
        if n_partons == 0:
            columns[:, 0] = learned.hard_object.sample_alone(columns[:, 0], rng)
            return given
        drawn = learned.hard_object.sample_beside(columns[:, 0], columns[:, 1], rng)
        columns[:, 0], columns[:, 1] = drawn
        return replace(given, azimuth=phi(partons[:, 0]) - columns[:, 1, PHI])


def with_masses(network: RadiationNetwork, given: Particles, rng: torch.Generator) -> Particles:
    """The jets of given events with masses drawn, one after the other, by their other numbers."""
    columns = given.columns.clone()
    with torch.no_grad():
        for jet in range(1, columns.shape[1]):
            seen = columns.to(network.read_hard.weight.dtype)
            past = Past.all_of(seen[:, :jet])
            context = network.particles(network.embed(past.columns))[:, -1]
            known = seen[:, jet, :LOG_M2].unbind(-1)
            rows = [network.embed_number(context, k, known[:k], past) for k in range(N_COLUMNS)]
            hidden = network.numbers(torch.stack(rows, dim=1))[:, LOG_M2]
            parameters = network.mixture(LOG_M2, hidden, known, past)
            columns[:, jet, LOG_M2] = network.conditionals[LOG_M2].sample(parameters, rng)
    return replace(given, columns=columns)


@torch.no_grad()
def log_prob_after(network: RadiationNetwork, particles: Particles, n_given: int) -> Tensor:
    """ln of the density of all jets after the first n_given ones, and of there being no more: (n,)."""
    terms = network(particles.columns, particles.n_jets)
    counts = torch.arange(terms.split.shape[1])
    split = terms.split.double()
    is_drawn = (counts >= n_given) & (counts < particles.n_jets[:, None])
    goes_on = torch.where(is_drawn, F.logsigmoid(split), 0.0).sum(-1)
    stops = F.logsigmoid(-split.gather(1, particles.n_jets[:, None])[:, 0])
    found: Tensor = terms.log_kin[:, n_given:].double().sum(-1) + goes_on + stops
    return found


def _put(events: JetEvents, index: Tensor, part: JetEvents) -> JetEvents:
    """The events with others in place of those at an index."""
    n_max = max(events.n_max, part.n_max)
    events, part = events.padded(n_max), part.padded(n_max)
    return JetEvents(
        hard=events.hard.index_put((index,), part.hard),
        jets=events.jets.index_put((index,), part.jets),
        n_jets=events.n_jets.index_put((index,), part.n_jets),
    )
