"""A part of a sample: what its event file says so that the parts can be joined."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from mlgen.campaign.chunk_files import (
    summary_from_table,
    summary_table,
    sums_from_table,
    sums_table,
)
from mlgen.core import SampleInfo
from mlgen.errors import EventFileError
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.generate import ChunkSummary

SHARD_BLOCK = "mlgen_shard"
"""The element of the header that holds it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Neighbouring chunks of a sample, as their event file has them."""

    source: str
    """What the whole sample is made from: pack, seed, points of a chunk, kind of events."""
    n_events: int
    """Of the whole sample, as asked for."""
    n_chunks: int
    """Of the whole sample."""
    factor: float
    """XWGTUP over the weight of an event, in this file."""
    measured: ChannelSums
    """Of the points that measured the sampler, which count once."""
    chunks: Sequence[ChunkSummary]

    @property
    def block(self) -> tuple[str, str]:
        """Tag and text of the element of the header, JSON."""
        table: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        table["measured"] = sums_table(self.measured)
        table["chunks"] = [summary_table(chunk) for chunk in self.chunks]
        return SHARD_BLOCK, json.dumps(table)

    @classmethod
    def of(cls, info: SampleInfo, name: str) -> Self:
        """The part that a file holds.

        Args:
            info: what the file says of itself.
            name: of the file, for the message.

        Raises:
            EventFileError: it is no part of a sample.
        """
        text = dict(info.blocks).get(SHARD_BLOCK)
        if text is None:
            raise EventFileError(
                f"{name}: no part of a sample: expected a file of `mlgen generate --shard I/K`"
            )
        try:
            table = json.loads(text)
            table["measured"] = sums_from_table(table["measured"])
            table["chunks"] = [summary_from_table(chunk) for chunk in table["chunks"]]
            return cls(**table)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EventFileError(f"{name}: <{SHARD_BLOCK}> cannot be read: {error}") from error
