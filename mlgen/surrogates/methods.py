"""The ways to learn an uncertainty, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from mlgen.errors import CardError
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.bayesian import BayesianLastLayer
from mlgen.surrogates.evidential import Evidential
from mlgen.surrogates.gaussian import Gaussian
from mlgen.surrogates.method import Method
from mlgen.surrogates.mixture import GaussianMixture
from mlgen.surrogates.networks import Inputs
from mlgen.surrogates.repulsive import RepulsiveEnsemble
from mlgen.surrogates.variational import BayesianNetwork

MethodFactory = Callable[[Inputs, SurrogateCard, torch.Generator], Method]
"""Starts a method for what networks see, with the randomness of its first weights."""


def _bayesian(inputs: Inputs, settings: SurrogateCard, rng: torch.Generator) -> Method:
    layers = {"last": BayesianLastLayer, "all": BayesianNetwork}
    return layers[settings.variational](inputs, settings, rng)


METHODS: Mapping[str, MethodFactory] = {
    "bayesian": _bayesian,
    "evidential": Evidential,
    "gaussian": Gaussian,
    "mixture": GaussianMixture,
    "repulsive": RepulsiveEnsemble,
}


def check_method_name(name: str) -> None:
    """Say so early where a method does not exist.

    Raises:
        CardError: no such method.
    """
    if name not in METHODS:
        known = ", ".join(sorted(METHODS))
        raise CardError(f"surrogate.method = {name!r}: expected one of {known}")


def start_method(inputs: Inputs, settings: SurrogateCard, rng: torch.Generator) -> Method:
    """The method that settings name, as yet untrained.

    Raises:
        CardError: no such method.
        MissingExtra: lgatr is not installed.
    """
    check_method_name(settings.method)
    return METHODS[settings.method](inputs, settings, rng)
