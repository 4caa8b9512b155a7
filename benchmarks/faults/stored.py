"""Files of mlgen's own that are damaged, foreign, newer, or of something else."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults.cases import case
from benchmarks.faults.launch import Plan
from benchmarks.faults.matrix_elements import Fault
from benchmarks.faults.process import demand
from benchmarks.faults.stage import (
    N_EVENTS,
    PACK,
    Stage,
    check_complete,
    check_not_complete,
    read_record,
    run_arguments,
)
from mlgen.campaign.pack import Pack, read_pack
from mlgen.errors import PackError

N_FLIPPED = 200


def generate(stage: Stage, pack: Path, *options: str) -> list[str]:
    return ["generate", str(pack), "--seed=5", "-o", "out", *options]


def refused(stage: Stage, pack: Path, pattern: str, plan: Plan | None = None) -> str:
    """A pack from which no event is made."""
    said = stage.mlgen(generate(stage, pack), plan).must_fail(8, pattern)
    folder = stage.folder / "out"
    if folder.exists():
        check_not_complete(folder)
        demand(not list(folder.glob("events*")), "events of a refused pack")
    return said


def damaged(stage: Stage, change: Callable[[bytearray], bytes | bytearray]) -> Path:
    """A copy of the pack with other bytes."""
    path = stage.folder / PACK
    path.write_bytes(change(bytearray(stage.wholes.pack.read_bytes())))
    return path


def rewritten(stage: Stage, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the pack with another index."""
    path = stage.folder / PACK
    with zipfile.ZipFile(stage.wholes.pack) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "pack.json":
                index = json.loads(content)
                change(index)
                content = json.dumps(index).encode()
            new.writestr(name, content)
    return path


def is_same(one: Pack, other: Pack) -> bool:
    """Whether two packs say the same, to the last bit."""
    if repr(one) != repr(other):  # of tensors, that shows some numbers only
        return False
    return all(
        torch.equal(tensor, other.samplers[name].tensors[key])
        for name, sampler in one.samplers.items()
        for key, tensor in sampler.tensors.items()
    )


@case("pack: truncated", repeats=4)
def _truncated(stage: Stage) -> str:
    size = stage.wholes.pack.stat().st_size
    n_bytes = stage.rng.choice([0, 1, size - 1, stage.rng.randrange(size)])
    return refused(stage, damaged(stage, lambda content: content[:n_bytes]), "no sampler pack|dama")


@case(f"pack: a bit flipped, at each of {N_FLIPPED} positions")
def _flipped(stage: Stage) -> str:
    good = read_pack(stage.wholes.pack)
    size = stage.wholes.pack.stat().st_size
    n_refused = 0
    for place in stage.rng.sample(range(size), min(N_FLIPPED, size)):
        bit = 1 << stage.rng.randrange(8)

        def flip(content: bytearray, place: int = place, bit: int = bit) -> bytearray:
            content[place] ^= bit
            return content

        try:
            found = read_pack(damaged(stage, flip))
        except PackError:
            n_refused += 1
        else:
            demand(is_same(found, good), f"bit {bit} of byte {place}: another pack, silently")
    return f"{n_refused} refused, the others in bytes that say nothing"


@case("pack: a bit flipped, by the command line", repeats=3)
def _flipped_command(stage: Stage) -> str:
    start = stage.wholes.pack.stat().st_size // 4

    def flip(content: bytearray) -> bytearray:
        content[stage.rng.randrange(start, 3 * start)] ^= 1 << stage.rng.randrange(8)
        return content

    path = damaged(stage, flip)
    return refused(stage, path, "damaged|no sampler pack|PackError|channels")


@case("pack: a foreign zip file")
def _foreign(stage: Stage) -> str:
    path = stage.folder / "foreign.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing of ours")
    return refused(stage, path, "no sampler pack: it holds no pack.json")


@case("pack: a checkpoint in its place")
def _checkpoint(stage: Stage) -> str:
    folder = interrupted(stage)
    return stage.mlgen(["generate", str(folder / "checkpoint.zip")]).must_fail(8, "no sampler pack")


@case("pack: not there")
def _nowhere(stage: Stage) -> str:
    return refused(stage, Path("nowhere.mlgen.zip"), r"cannot be read \(No such file")


@case("pack: of another version of mlgen, in the same form")
def _other_version(stage: Stage) -> str:
    path = rewritten(stage, lambda index: index.update(mlgen_version="0.0.1"))
    stage.mlgen(generate(stage, path)).must_work()
    check_complete(stage.folder / "out", None)
    demand(read_record(stage.folder / "out")["n_events"] == N_EVENTS, "another number of events")
    return "exit 0, all events are there"


@case("pack: a newer schema")
def _newer(stage: Stage) -> str:
    path = rewritten(stage, lambda index: index.update(schema_version=99))
    return refused(stage, path, "in form 99.*update mlgen")


@case("pack: a key that is missing", repeats=4)
def _key(stage: Stage) -> str:
    keys = ["card", "samplers", "fingerprint", "seed", "sampler", "tables", "process", "sha256"]
    key = stage.rng.choice(keys)
    return refused(stage, rewritten(stage, lambda index: index.pop(key)), "damaged|no sampler pack")


@case("pack: a value of another type", repeats=4)
def _type(stage: Stage) -> str:
    key = stage.rng.choice(["card", "samplers", "fingerprint", "sampler", "sha256"])
    values: list[Any] = [7, None, [], "x", {}]
    value = stage.rng.choice(values)
    path = rewritten(stage, lambda index: index.update({key: value}))
    return f"{key} = {value!r}: " + refused(stage, path, ".")


@case("pack: numbers of another type in a sampler", repeats=6)
def _numbers(stage: Stage) -> str:
    key = stage.rng.choice(["w_max", "fraction", "config", "estimate"])
    values: list[Any] = [7, None, [], "x", {}, [0.0], ["a"], [-1.0], [1.0, 2.0]]
    value = stage.rng.choice(values)

    def change(index: dict[str, Any]) -> None:
        index["samplers"]["vegas"][key] = value

    return f"{key} = {value!r}: " + refused(stage, rewritten(stage, change), ".")


@case("pack: the card is not TOML")
def _card(stage: Stage) -> str:
    path = rewritten(stage, lambda index: index.update(card="[process"))
    return refused(stage, path, "the pack's card cannot be read")


@case("pack: another cut on its card")
def _cut(stage: Stage) -> str:
    def change(index: dict[str, Any]) -> None:
        lines = index["card"].splitlines()
        place = lines.index("[cuts.leptons]")
        kept = [line for line in lines[place + 1 :] if not line.startswith("pt_min_gev")]
        index["card"] = "\n".join([*lines[: place + 1], "pt_min_gev = 200.0", *kept])

    return refused(stage, rewritten(stage, change), "the pack is of another integrand|other sub")


@case("pack: the matrix element has another value here")
def _value(stage: Stage) -> str:
    def change(index: dict[str, Any]) -> None:
        index["fingerprint"]["value"] = [1.001 * v for v in index["fingerprint"]["value"]]

    return refused(
        stage, rewritten(stage, change), "another integrand: the values at stored points"
    )


@case("pack: made with a density that was exchanged since")
def _density(stage: Stage) -> str:
    from mlgen.physics.pdf import find_set

    sets = ["run.n_events=200", "run.n_estimate=4000", "run.chunk_size=2000"]
    options = [f"--set={s}" for s in (*sets, "vegas.n_points=2000", "vegas.n_iterations=2")]
    command = ["run", "pp_to_ee", "--sampler=vegas", *options, "-o", "first"]
    stage.mlgen(command).must_work()
    place = stage.folder / "sets"
    place.mkdir()
    other = find_set("NNPDF31_lo_as_0130", 0)
    shutil.copy(other, place / "NNPDF23_lo_as_0130_qed_0000.dat")
    pack = stage.folder / "first" / "pp_to_ee.mlgen.zip"
    finished = stage.mlgen(generate(stage, pack), environment={"LHAPDF_DATA_PATH": str(place)})
    return finished.must_fail(8, "another integrand: the values at stored points differ")


# --- what an interrupted run has stored ------------------------------------------------------


def interrupted(stage: Stage, *options: str, nth: int = 4) -> Path:
    """The folder of a run that was killed when it wrote a chunk."""
    plan = Plan(checkpoints=True, do="kill", file="chunks/", nth=nth)
    stage.mlgen([*run_arguments("out"), *options], plan)
    return stage.folder / "out"


def interrupted_generation(stage: Stage) -> Path:
    stage.mlgen(generate(stage, stage.wholes.pack), Plan(do="kill", file="chunks/", nth=4))
    return stage.folder / "out"


def spoil(stage: Stage, path: Path) -> str:
    """Damage a file in one of several ways; which."""
    content = bytearray(path.read_bytes())
    how = stage.rng.choice(["empty", "cut off", "bit flipped", "random"])
    if how == "empty":
        content.clear()
    elif how == "cut off":
        del content[stage.rng.randrange(len(content)) :]
    elif how == "bit flipped":
        content[stage.rng.randrange(len(content))] ^= 1 << stage.rng.randrange(8)
    else:
        content[:] = stage.rng.randbytes(len(content))
    path.write_bytes(content)
    return how


@case("chunk: damaged before --resume", repeats=6)
def _chunk(stage: Stage) -> str:
    folder = interrupted(stage)
    how = spoil(stage, folder / "chunks" / "000001.zip")
    return f"{how}: " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("chunk: of another sample before --resume")
def _other_chunk(stage: Stage) -> str:
    folder = interrupted(stage)
    stage.mlgen(
        ["generate", str(stage.wholes.pack), "--seed=99", "-o", "other"],
        Plan(do="kill", file="chunks/", nth=4),
    )
    shutil.copy(stage.folder / "other/chunks/000001.zip", folder / "chunks/000001.zip")
    return stage.resume(folder, same_as=stage.wholes.vegas)


@case("chunk: under another number before --resume")
def _misplaced_chunk(stage: Stage) -> str:
    folder = interrupted(stage)
    shutil.copy(folder / "chunks/000000.zip", folder / "chunks/000001.zip")
    shutil.copy(folder / "chunks/000000.zip", folder / "chunks/000005.zip")
    return stage.resume(folder, same_as=stage.wholes.vegas)


@case("chunk: strange files beside them before --resume")
def _strange(stage: Stage) -> str:
    folder = interrupted(stage)
    (folder / "chunks" / "notes.txt").write_text("a person's")
    (folder / "chunks" / "999999.zip").mkdir()
    finished = stage.mlgen(["run", "--resume", "out"])
    demand(finished.code != 70, f"unexpected: {finished.messages}")
    demand("Traceback" not in finished.err, "a stack trace")
    if finished.code == 0:
        demand(read_record(folder)["status"] == "complete", "not complete")
    return f"exit {finished.code}"


@case("checkpoint: damaged before --resume", repeats=6)
def _checkpoint_damaged(stage: Stage) -> str:
    folder = interrupted(stage)
    path = folder / "checkpoint.zip"
    good = path.read_bytes()
    how = spoil(stage, path)
    bad = path.read_bytes()
    finished = stage.mlgen(["run", "--resume", "out"])
    if finished.code == 0 and how == "bit flipped":
        return f"{how} in a byte that says nothing: exit 0"
    said = finished.must_fail(8, "checkpoint")
    demand(path.read_bytes() == bad, "the damaged checkpoint was touched")
    check_not_complete(folder)
    path.write_bytes(good)
    return f"{how}: {said}, mended: " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("checkpoint: of another version of mlgen")
def _version(stage: Stage) -> str:
    folder = interrupted(stage)
    finished = stage.mlgen(["run", "--resume", "out"], Plan(version="99.0"))
    said = finished.must_fail(8, "expected the same version")
    return f"{said}, " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("checkpoint: the matrix element has changed since")
def _changed(stage: Stage) -> str:
    plan = Plan(checkpoints=True, do="kill", file="checkpoint", nth=6)
    stage.mlgen(run_arguments("out", sampler="flow"), plan)
    fault = Fault(how="twice")
    finished = stage.mlgen(["run", "--resume", "out"], environment=dict(fault.environment))
    said = finished.must_fail(8, "of another integrand|the values at stored points differ")
    return f"{said}, " + stage.resume(stage.folder / "out", same_as=stage.wholes.flow)


@case("the matrix element has changed between two halves of mlgen generate")
def _changed_generation(stage: Stage) -> str:
    folder = interrupted_generation(stage)
    fault = Fault(how="twice")
    finished = stage.mlgen(["run", "--resume", "out"], environment=dict(fault.environment))
    said = finished.must_fail(8, "another integrand")
    return f"{said}, " + stage.resume(folder, same_as=stage.wholes.generated)


@case("job.json: damaged before --resume", repeats=6)
def _job(stage: Stage) -> str:
    folder = interrupted_generation(stage)
    path = folder / "job.json"
    good = path.read_bytes()
    how = stage.rng.choice(["spoilt", "list", "key", "type"])
    if how == "spoilt":
        how = spoil(stage, path)
    elif how == "list":
        path.write_text("[]")
    else:
        table = json.loads(good)
        key = stage.rng.choice(["pack", "n_events", "seed", "format", "shard", "pack_sha256"])
        how = f"{how} {key}"
        if how.startswith("key"):
            del table[key]
        else:
            table[key] = stage.rng.choice([3.5, {}, ["x"], True])
        path.write_text(json.dumps(table))
    finished = stage.mlgen(["run", "--resume", "out"])
    if finished.code == 0:
        changed = json.loads(good)["n_events"], json.loads(good)["seed"]
        record = read_record(folder)
        found = record["n_events"], record["seed"]
        demand(found == changed, f"{how}: (n_events, seed) = {found}: expected {changed}")
        return f"{how}: exit 0, as was asked for"
    demand(finished.code in (2, 8), f"{how}: exit {finished.code}; it said {finished.messages}")
    finished.must_fail(finished.code, ".")
    check_not_complete(folder)
    path.write_bytes(good)
    resumed = stage.resume(folder, same_as=stage.wholes.generated)
    return f"{how}: exit {finished.code}, mended: {resumed}"


@case("the pack is exchanged before --resume of mlgen generate")
def _exchanged(stage: Stage) -> str:
    pack = stage.folder / "mine.mlgen.zip"
    shutil.copy(stage.wholes.pack, pack)
    stage.mlgen(generate(stage, pack), Plan(do="kill", file="chunks/", nth=3))
    shutil.copy(stage.wholes.flow.folder / PACK, pack)
    finished = stage.mlgen(["run", "--resume", "out"])
    said = finished.must_fail(8, "another pack than before")
    shutil.copy(stage.wholes.pack, pack)
    return f"{said}, " + stage.resume(stage.folder / "out", same_as=stage.wholes.generated)
