"""What was learned of radiation, whole: from momenta to momenta."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mlgen.core import Progress
from mlgen.fitting import TrainingRecord
from mlgen.radiation.hard_object import HardObject, learn_hard_object
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.representation import Representation, Standard
from mlgen.radiation.settings import NetworkSettings, TrainingSettings
from mlgen.radiation.training import train
from mlgen.radiation.uncertainty import Density, Ensemble, posterior_members

N_POSTERIOR = 10
"""Networks that stand for a variational one."""
_HARD_OBJECT = "hard_object"
"""The name of its tensors."""


@dataclass(frozen=True, kw_only=True)
class LearnedRadiation:
    """Networks and their representation; densities are in pt, phi, eta and m of jets, given the hard object."""

    representation: Representation
    settings: NetworkSettings
    networks: tuple[RadiationNetwork, ...]
    hard_object: HardObject
    """For hard objects as a hard process has them, before there are jets."""

    @cached_property
    def ensemble(self) -> Ensemble:
        """The networks, or, where they are variational, what their weights may be."""
        if self.settings.variational == "none":
            return Ensemble(self.networks)
        drawn = [posterior_members(net, N_POSTERIOR, k) for k, net in enumerate(self.networks)]
        return Ensemble([member for ensemble in drawn for member in ensemble.members])

    def density(self, events: JetEvents) -> Density:
        """Of the jets of events, and of there being no more, with its uncertainty.

        Raises:
            MlgenError: see `check_jet_events`.
        """
        particles = self.representation.encode(events)
        log_jac = self.representation.log_jac(particles)[:, 1:].sum(-1)
        found = self.ensemble.density(particles)
        return found._replace(log_prob=found.log_prob + log_jac)

    def sample(self, hard: Tensor, rng: torch.Generator, max_jets: int = 10) -> JetEvents:
        """Draw jets for hard objects (n, 4), GeV; an event that has max_jets gets no more.

        Raises:
            MlgenError: see `check_jet_events`.
        """
        n = len(hard)
        no_jets = torch.zeros(n, dtype=torch.int64)
        without = JetEvents(hard=hard, jets=hard.new_zeros(n, 0, 4), n_jets=no_jets)
        drawn = self.ensemble.sample(self.representation.encode(without), rng, max_jets)
        return replace(self.representation.decode(drawn), hard=hard)

    def state(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Settings for JSON, and tensors by the name of their network."""
        table = {
            "representation": asdict(self.representation),
            "network": asdict(self.settings),
            "n_networks": len(self.networks),
        }
        tensors = {f"network_{k}": network.state() for k, network in enumerate(self.networks)}
        tensors[_HARD_OBJECT] = self.hard_object.state()
        return table, tensors

    @classmethod
    def restore(
        cls, table: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]
    ) -> LearnedRadiation:
        """What `state` is of; tensors may have been rounded to half precision.

        Raises:
            MlgenError: a setting or a tensor is not as it should be.
            KeyError, TypeError: one is missing or too many.
        """
        found = dict(table["representation"])
        for kind in ("hard", "jets"):
            found[kind] = Standard(
                **{key: tuple(numbers) for key, numbers in dict(found[kind]).items()}
            )
        settings = NetworkSettings(**table["network"])
        names = [f"network_{k}" for k in range(table["n_networks"])]
        networks = tuple(RadiationNetwork.restore(settings, tensors[name]) for name in names)
        hard_object = HardObject.restore(tensors[_HARD_OBJECT])
        return cls(
            representation=Representation(**found),
            settings=settings,
            networks=networks,
            hard_object=hard_object,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Learning:
    """What `learn` returns."""

    radiation: LearnedRadiation
    records: tuple[TrainingRecord, ...]
    """Of each member."""


class MemberStore:
    """Where finished members are kept while others are learned: nowhere, unless a class below says otherwise."""

    def load(self, number: int) -> tuple[RadiationNetwork, TrainingRecord] | None:
        """A member that is finished already; None: it is not."""
        return None

    def save(self, number: int, network: RadiationNetwork, record: TrainingRecord) -> None:
        """Keep a member; those before are kept already."""


def learn(
    events: JetEvents,
    pt_min: float,
    network: NetworkSettings,
    settings: TrainingSettings,
    seed: int,
    progress: Progress,
    store: MemberStore | None = None,
    radius: float = 0.0,
) -> Learning:
    """Learn radiation from events whose jets have more than pt_min (GeV).

    Args:
        store: has what an interrupted learning of the same order has finished, and gets what this one does.
        radius: of the jets, see `Representation`.

    Raises:
        MlgenError: see `check_jet_events`; there are too few events or jets.
        TrainingFailed: the loss is not finite.
    """
    n_jets = events.n_jets.clamp(max=settings.n_max)
    # Not even the standardisation has seen more jets.
    seen = JetEvents(hard=events.hard, jets=events.jets[:, : settings.n_max], n_jets=n_jets)
    representation = Representation.of(seen, pt_min, radius)
    particles = representation.encode(seen)
    store = MemberStore() if store is None else store
    trained: list[tuple[RadiationNetwork, TrainingRecord]] = []
    for member in range(settings.n_members):
        found = store.load(member)
        if found is None:
            scales = representation.scales
            found = train(particles, network, settings, seed + member, progress, scales)
            store.save(member, *found)
        trained.append(found)
    return Learning(
        radiation=LearnedRadiation(
            representation=representation,
            settings=network,
            networks=tuple(found for found, _ in trained),
            hard_object=learn_hard_object(particles.columns, particles.n_jets, seed, progress),
        ),
        records=tuple(record for _, record in trained),
    )
