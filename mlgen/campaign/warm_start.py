"""Warm start: training that begins from the flow of a pack instead of the adapted grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlgen.campaign.pack import PackedSampler, read_pack
from mlgen.campaign.whole_files import checksum
from mlgen.card_files import card_from_toml
from mlgen.cards import Card
from mlgen.core import Evaluation, Integrand
from mlgen.errors import CardError, PackError
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.registry import restore_sampler

_SHAPE = (
    ("flow", "n_blocks"),
    ("flow", "n_bins"),
    ("flow", "n_layers"),
    ("flow", "n_hidden"),
    ("vegas", "n_bins"),
)
"""Keys that what is learned has its shape from."""

_INTEGRAND = ("beams", "model", "pdf", "alpha_s", "scales", "cuts", "phase_space")
"""Sections that the integrand depends on, beside the process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmStart:
    """A sampler of a pack, to begin training from."""

    file: str
    """The name of the pack, without its folder."""
    sha256: str
    notes: tuple[str, ...]
    """In what the pack's card differs, where that matters."""
    card: Card
    """Of the run that begins."""
    name: str
    """Of the sampler."""
    packed: PackedSampler

    def sampler_for(self, integrand: Integrand[Evaluation]) -> SamplerModule:
        """The sampler, ready to be trained on an integrand.

        Raises:
            PackError: it has other numbers of dimensions or channels, or is damaged.
        """
        config = self.packed.config
        for key, wanted in (("n_dim", integrand.n_dim), ("n_channels", integrand.n_channels)):
            if config.get(key) != wanted:
                raise PackError(
                    f"{self.file}: {key} = {config.get(key)}: expected {wanted}, as the process of "
                    "this card has it"
                )
        shape = integrand.n_channels, integrand.n_dim
        return restore_sampler(self.name, self.card, *shape, self.packed.tensors)


def read_warm_start(card: Card) -> WarmStart | None:
    """The sampler that `flow.start_from` names; None where the card names none, or trains nothing.

    Raises:
        CardError: the card's sampler has another shape than that of the pack.
        PackError: the pack cannot be read, or holds no such sampler.
    """
    if not card.flow.start_from or card.run.sampler == "vegas":
        return None
    path = Path(card.flow.start_from)
    name = "flow" if card.run.sampler == "auto" else card.run.sampler
    pack = read_pack(path)
    if name not in pack.samplers:
        raise PackError(f"{path}: holds {', '.join(pack.samplers)}: expected a trained {name}")
    try:
        theirs = card_from_toml(pack.card)
    except CardError as error:
        raise PackError(f"{path}: its card cannot be read: {error}") from error
    for section, key in _SHAPE:
        got, wanted = _value(card, section, key), _value(theirs, section, key)
        if got != wanted:
            raise CardError(f"{section}.{key} = {got}: expected {wanted}, as in {path}")
    return WarmStart(
        file=path.name,
        sha256=checksum(path),
        notes=_notes(path.name, card, theirs),
        card=card,
        name=name,
        packed=pack.samplers[name],
    )


def _value(card: Card, section: str, key: str) -> Any:
    return getattr(getattr(card, section), key)


def _notes(file: str, ours: Card, theirs: Card) -> tuple[str, ...]:
    differ = [f"[{name}]" for name in _INTEGRAND if getattr(ours, name) != getattr(theirs, name)]
    particles = theirs.process.definition, theirs.process.multiparticles
    if (ours.process.definition, ours.process.multiparticles) != particles:
        differ.insert(0, f"`{theirs.process.definition}`")
    if not differ:
        return ()
    return (
        f"training began from {file}, whose card differs in {', '.join(differ)}; that may cost "
        "training, and biases nothing",
    )
