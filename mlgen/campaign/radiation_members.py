"""Networks of an ensemble that is still being learned, in a file beside the model that it will be.

Each is stored once it is finished, so that a training that was stopped goes on with the next one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import mlgen
from mlgen.campaign.archive import Archive, ArchiveKind, write_archive
from mlgen.errors import CardError
from mlgen.fitting import TrainingRecord
from mlgen.radiation.learned import MemberStore
from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.settings import NetworkSettings

SUFFIX = ".members"
"""After the name of the model."""

_KIND = ArchiveKind(
    title="file of members",
    index="members.json",
    schema="mlgen-radiation-members",
    schema_version=2,
    folder="networks",
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    """What the file holds."""

    order: Mapping[str, Any]
    records: tuple[TrainingRecord, ...]
    states: tuple[Mapping[str, Tensor], ...]
    """Of each network; as many as there are records."""


class MemberFile(MemberStore):
    """Finished networks; there is no file where there are none."""

    def __init__(self, model: Path, settings: NetworkSettings, order: Mapping[str, Any]) -> None:
        """Read the file, if it is there.

        Args:
            model: what it will become.
            order: all that decides what is learned, as JSON has it.

        Raises:
            PackError: the file is damaged.
            CardError: it is of another training.
        """
        self.path = model.with_name(model.name + SUFFIX)
        self._settings = settings
        self._order = {**order, "mlgen_version": mlgen.__version__}
        self._members: list[tuple[RadiationNetwork, TrainingRecord]] = []
        if self.path.exists():
            self._read()

    def __len__(self) -> int:
        return len(self._members)

    def load(self, number: int) -> tuple[RadiationNetwork, TrainingRecord] | None:
        return self._members[number] if number < len(self._members) else None

    def save(self, number: int, network: RadiationNetwork, record: TrainingRecord) -> None:
        self._members[number:] = [(network, record)]
        table = {
            "order": self._order,
            "records": [dataclasses.asdict(record) for _, record in self._members],
        }
        states = {_name(k): network.state() for k, (network, _) in enumerate(self._members)}
        write_archive(self.path, _KIND, table, states)

    def remove(self) -> None:
        """Once the model stands."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        stored = Archive(self.path, _KIND).assemble(_assemble)
        if stored.order != self._order:
            changed = sorted(
                key
                for key in stored.order.keys() | self._order.keys()
                if stored.order.get(key) != self._order.get(key)
            )
            raise CardError(
                f"{self.path}: networks of a training with another {', '.join(changed)}: expected the "
                "options that it was stopped with; without that file the training starts anew"
            )
        for state, record in zip(stored.states, stored.records, strict=True):
            self._members.append((RadiationNetwork.restore(self._settings, state), record))


def _name(number: int) -> str:
    return f"member_{number}"


def _assemble(archive: Archive) -> _Stored:
    records = tuple(
        TrainingRecord(**{**table, "validation_losses": tuple(table["validation_losses"])})
        for table in archive.index["records"]
    )
    return _Stored(
        order=archive.index["order"],
        records=records,
        states=tuple(archive.tensors(_name(number)) for number in range(len(records))),
    )
