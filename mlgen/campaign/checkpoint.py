"""Unfinished learning, stored in the run folder every few seconds, so that it goes on after a stop.

One file holds the whole card, the state of each learner, the times that were measured and decisions
rest on, and what the run has cost so far: it is replaced as a whole, and so consistent at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

import mlgen
from mlgen.campaign.archive import Archive, ArchiveKind, write_archive
from mlgen.campaign.fingerprint import N_COMPARED, channels_sha256, has_values
from mlgen.campaign.point_files import PointFiles
from mlgen.campaign.step_clock import StepClock
from mlgen.core import Evaluation
from mlgen.errors import PackError
from mlgen.integration.exact_points import ExactPoints
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.learned_surrogate import GUIDE
from mlgen.integration.learner import Learner, LearnerState, Round
from mlgen.integration.trust import EXACT_SHARE

CHECKPOINT_FILE = "checkpoint.zip"

INTERVAL_S = 5.0
"""At least so long between two writes."""
PATIENCE = 100.0
"""And at least so many times as long as the last write took: checkpoints cost less than 1 %."""

GUIDED_COMPARED = 4 * EXACT_SHARE
"""Stored points among which some values are exact, where a surrogate guided the flow."""

_KIND = ArchiveKind(
    title="checkpoint",
    index="checkpoint.json",
    schema="mlgen-checkpoint",
    schema_version=1,
    folder="learners",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRun:
    """A run, as far as it has come."""

    card: str
    """The whole card, TOML, with the folders of this machine."""
    channels_sha256: str = ""
    """Of its groups and channels; empty until they were found."""
    start_sha256: str = ""
    """Of the pack that training started from; empty: from none."""
    learners: Mapping[str, LearnerState] = field(default_factory=dict)
    """By purpose."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Times that decisions rest on, by name."""
    n_resumed: int = 0
    """How many times it went on after a stop."""
    pack: str = ""
    """Where the pack is to stand, if that is all that is wanted; empty: events are."""
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    wall_s: Mapping[str, float] = field(default_factory=dict)


def read_checkpoint(path: Path) -> StoredRun:
    """Read a checkpoint, and check every byte of it.

    Raises:
        PackError: the file cannot be read, is no checkpoint, is damaged, or was written by another
            version of mlgen, whose random numbers or training may differ.
    """
    stored = Archive(path, _KIND)
    writer = stored.index.get("mlgen_version")
    if writer != mlgen.__version__:
        raise PackError(
            f"{path}: written by mlgen {writer}, this is {mlgen.__version__}: expected the same "
            "version; go on with that one, or run the card again into another folder"
        )
    return stored.assemble(_assemble)


class RunCheckpoint:
    """Stores learners in a file while they learn: `mlgen.integration.learner.Checkpoints`."""

    def __init__(
        self,
        path: Path,
        stored: StoredRun,
        clock: StepClock,
        now: Callable[[], float] = time.monotonic,
        points: PointFiles | None = None,
    ) -> None:
        """Go on from what is stored; `write` makes the file.

        Args:
            clock: what the run costs.
            points: where points are kept; None: nowhere.
            now: seconds.
        """
        self._path, self._stored, self._clock, self._now = path, stored, clock, now
        self._points = points
        self._written_at, self._write_took_s = now(), 0.0
        self._is_behind = True

    @property
    def clock(self) -> StepClock:
        """What the run costs, with what it had cost before it was interrupted."""
        return self._clock

    @property
    def n_resumed(self) -> int:
        """How many times the run went on after a stop."""
        return self._stored.n_resumed

    @property
    def settled(self) -> Mapping[str, float]:
        """Measured times that decisions rest on, by name."""
        return dict(self._stored.measured)

    @property
    def has_learned(self) -> bool:
        """Whether there is anything to go on from."""
        return bool(self._stored.learners)

    def bind(self, integrand: ProcessIntegrand, start_sha256: str) -> None:
        """Say what is integrated, and what training starts from.

        Raises:
            PackError: what is stored was learned from another integrand, or from another start.
        """
        found = channels_sha256(integrand)
        if self._stored.channels_sha256:
            if self._stored.channels_sha256 != found:
                raise self._foreign("other subprocesses or channels")
            if self._stored.start_sha256 != start_sha256:
                raise self._foreign("another pack in flow.start_from")
        if "train" in self._stored.learners:
            self._compare(integrand, self._stored.learners["train"].tensors)
        self._stored = replace(self._stored, channels_sha256=found, start_sha256=start_sha256)
        self._is_behind = True

    def load(self, purpose: str) -> LearnerState | None:
        """The state that was stored last, None if there is none."""
        return self._stored.learners.get(purpose)

    def offer(self, learner: Learner) -> None:
        """Store the learner's state, if that was not done a few seconds ago.

        What is complete stays complete: it is stored with the next write, whoever asks for that.
        """
        is_due = self._is_due(INTERVAL_S)
        if not is_due and learner.progress < 1:
            return
        self._take(learner.purpose, replace(learner.state(), n_calls=learner.n_calls))
        if is_due:
            self.write()

    def store(self, purpose: str, state: LearnerState) -> None:
        """Store what was learned otherwise, under a purpose of its own."""
        self._take(purpose, state)
        self.catch_up()

    def settle(self, name: str, measured: float) -> float:
        """A measured time, or the one that was stored in its place: decisions are made once."""
        if name not in self._stored.measured:
            settled = {**self._stored.measured, name: measured}
            self._stored = replace(self._stored, measured=settled)
            self._is_behind = True
        return self._stored.measured[name]

    def keep(self, stage: str, index: int, evaluation: Evaluation) -> None:
        """Keep a batch of points for a surrogate to learn from, if there is to be one.

        Raises:
            MlgenError: the file cannot be written.
        """
        if self._points is not None and (points := ExactPoints.of(evaluation)) is not None:
            self._points.write(stage, index, points)

    def kept(self, before: Round | None = None) -> Iterator[ExactPoints]:
        """All points that were kept, in the order of their stages; up to a round, if it is given.

        Raises:
            PackError: a file is damaged.
        """
        return iter(()) if self._points is None else self._points.read(before)

    def catch_up(self) -> None:
        """Store what is complete, unless to write it would cost too much now."""
        if self._is_behind and self._is_due(0.0):
            self.write()

    def write(self) -> None:
        """Write the file."""
        started = self._now()
        cpu_s, wall_s = self._clock.cpu_s, self._clock.wall_s
        self._stored = replace(self._stored, cpu_s=cpu_s, wall_s=wall_s)
        _write(self._path, self._stored)
        self._written_at = self._now()
        self._write_took_s = self._written_at - started
        self._is_behind = False

    def remove(self) -> None:
        """The run is complete, or there is nothing to go on from."""
        self._path.unlink(missing_ok=True)
        if self._points is not None:
            self._points.remove()

    def _take(self, purpose: str, state: LearnerState) -> None:
        # What is learned goes on changing in place.
        tensors = {name: tensor.detach().clone() for name, tensor in state.tensors.items()}
        learners = {**self._stored.learners, purpose: replace(state, tensors=tensors)}
        self._stored = replace(self._stored, learners=learners)
        self._is_behind = True

    def _is_due(self, interval_s: float) -> bool:
        waited_s = self._now() - self._written_at
        return waited_s >= max(interval_s, PATIENCE * self._write_took_s)

    def _compare(self, integrand: ProcessIntegrand, tensors: Mapping[str, Tensor]) -> None:
        """Evaluate the integrand again where its values are stored."""
        dropped = (tensors["fractions"] == 0).nonzero()[:, 0]
        integrand = integrand.without(dropped.tolist())
        value = tensors["replay.value.0"]
        # Of the values that a flow was guided by, the exact ones are as the integrand has them.
        is_guided = GUIDE in self._stored.learners
        index = value.nonzero()[: GUIDED_COMPARED if is_guided else N_COMPARED, 0]
        r, channel = tensors["replay.r.0"][index], tensors["replay.channel.0"][index]
        stored = value[index]
        if (log_share := tensors.get("replay.log_share.0")) is not None:
            stored = stored / log_share[index].exp()
        agree = has_values(integrand, r, channel, stored)
        if not bool(agree.any() if is_guided else agree.all()):
            raise self._foreign("another integrand: the values at stored points differ")

    def _foreign(self, what: str) -> PackError:
        return PackError(
            f"{self._path}: of {what}: expected what the run was begun with; "
            "run the card again into another folder"
        )


def _write(path: Path, stored: StoredRun) -> None:
    table = {
        "mlgen_version": mlgen.__version__,
        "card": stored.card,
        "channels_sha256": stored.channels_sha256,
        "start_sha256": stored.start_sha256,
        "measured": stored.measured,
        "n_resumed": stored.n_resumed,
        "pack": stored.pack,
        "cpu_s": stored.cpu_s,
        "wall_s": stored.wall_s,
        "learners": {
            purpose: {"numbers": state.numbers, "n_calls": state.n_calls}
            for purpose, state in stored.learners.items()
        },
    }
    tensors = {purpose: state.tensors for purpose, state in stored.learners.items()}
    write_archive(path, _KIND, table, tensors)


def _assemble(archive: Archive) -> StoredRun:
    index = archive.index
    learners = {}
    for purpose, entry in index["learners"].items():
        # A copy is aligned as what was stored, and its own.
        tensors = {name: tensor.clone() for name, tensor in archive.tensors(purpose).items()}
        learners[purpose] = LearnerState(
            tensors=tensors, numbers=entry["numbers"], n_calls=entry["n_calls"]
        )
    return StoredRun(
        card=index["card"],
        channels_sha256=index["channels_sha256"],
        start_sha256=index["start_sha256"],
        learners=learners,
        measured=index["measured"],
        n_resumed=index["n_resumed"],
        pack=index["pack"],
        cpu_s=index["cpu_s"],
        wall_s=index["wall_s"],
    )
