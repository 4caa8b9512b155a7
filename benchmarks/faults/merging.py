"""Parts of a sample that cannot be joined."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from benchmarks.faults.cases import case
from benchmarks.faults.process import Broken, demand
from benchmarks.faults.stage import EVENTS, Stage
from benchmarks.faults.stored import spoil


def merged(stage: Stage, parts: list[Path], code: int, pattern: str) -> str:
    """Parts that cannot be joined."""
    finished = stage.mlgen(["merge", *map(str, parts), "-o", "merged.lhe.gz"])
    said = finished.must_fail(code, pattern)
    demand(not list(stage.folder.glob("*merged*")), "a file, although it failed")
    return said


@case("merge: a part is missing", repeats=3)
def _missing(stage: Stage) -> str:
    parts = stage.wholes.shards
    gone = stage.rng.randrange(3)
    return merged(stage, [p for i, p in enumerate(parts) if i != gone], 7, r"are missing: expected")


@case("merge: a part is there twice")
def _twice(stage: Stage) -> str:
    parts = stage.wholes.shards
    return merged(stage, [*parts, stage.rng.choice(parts)], 7, r"is there 2 times|there twice")


@case("merge: a part of another seed")
def _seed(stage: Stage) -> str:
    command = ["generate", str(stage.wholes.pack), "--seed=6", "--shard=2/3", "-o", "other"]
    stage.mlgen(command).must_work()
    first, _, last = stage.wholes.shards
    return merged(stage, [first, stage.folder / "other" / EVENTS, last], 7, "source = ")


@case("merge: parts of different divisions")
def _division(stage: Stage) -> str:
    command = ["generate", str(stage.wholes.pack), "--seed=5", "--shard=2/2", "-o", "other"]
    stage.mlgen(command).must_work()
    first, *_ = stage.wholes.shards
    return merged(stage, [first, stage.folder / "other" / EVENTS], 7, "missing|there 2 times")


@case("merge: a file of a part is damaged", repeats=6)
def _part(stage: Stage) -> str:
    parts = list(stage.wholes.shards)
    spoilt = stage.folder / "part.lhe.gz"
    shutil.copy(parts[1], spoilt)
    how = spoil(stage, spoilt)
    parts[1] = spoilt
    finished = stage.mlgen(["merge", *map(str, parts), "-o", "merged.lhe.gz"])
    target = stage.folder / "merged.lhe.gz"
    if finished.code == 0:
        stage.mlgen(["merge", *map(str, stage.wholes.shards), "-o", "good.lhe.gz"]).must_work()
        same = target.read_bytes() == (stage.folder / "good.lhe.gz").read_bytes()
        demand(same, f"{how}: other events, silently")
        return f"{how} in a byte that says nothing: exit 0"
    said = finished.must_fail(7, "part.lhe.gz")
    demand(not target.exists(), "a file, although it failed")
    return f"{how}: {said}"


@case("merge: an event file that is no part")
def _no_part(stage: Stage) -> str:
    first, second, _ = stage.wholes.shards
    files = [first, second, stage.wholes.generated.folder / EVENTS]
    return merged(stage, files, 7, "no part of a sample")


@case("merge: the output exists")
def _exists(stage: Stage) -> str:
    target = stage.folder / "merged.lhe.gz"
    target.write_text("precious")
    parts = [str(part) for part in stage.wholes.shards]
    said = stage.mlgen(["merge", *parts, "-o", "merged.lhe.gz"]).must_fail(2, "does not exist yet")
    demand(target.read_text() == "precious", "it was touched")
    return said


@case("merge: all parts give the same events as one run (control)")
def _merged(stage: Stage) -> str:
    from mlgen.events.formats import read_events

    parts = [str(part) for part in reversed(stage.wholes.shards)]
    stage.mlgen(["merge", *parts, "-o", "merged.lhe.gz"]).must_work()
    info, events = read_events(stage.folder / "merged.lhe.gz")
    info_of_one, events_of_one = read_events(stage.wholes.generated.folder / EVENTS)
    if not torch.equal(events.momenta, events_of_one.momenta):
        raise Broken("other events than those of one run")
    demand(info.cross_section_pb == info_of_one.cross_section_pb, "another cross section")
    return "the same events and cross section"
