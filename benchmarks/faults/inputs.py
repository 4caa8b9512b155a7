"""Cards, densities and surroundings that are not as they should be."""

from __future__ import annotations

import json
import os
from typing import Any

from benchmarks.faults.cases import case
from benchmarks.faults.launch import Plan
from benchmarks.faults.process import demand
from benchmarks.faults.stage import (
    Stage,
    check_complete,
    check_not_complete,
    read_record,
    run_arguments,
)
from mlgen.card_files import find_card
from mlgen.physics.pdf import find_set

DENSITY = "NNPDF23_lo_as_0130_qed"


def refused(stage: Stage, text: bytes, pattern: str) -> str:
    """A card that nothing is done with."""
    (stage.folder / "card.toml").write_bytes(text)
    said = stage.mlgen(["run", "card.toml", "-o", "out"]).must_fail(2, pattern)
    demand(not (stage.folder / "out").exists(), "a folder, although nothing could be done")
    return said


def card_text() -> bytes:
    return find_card("ee_to_mumu").read_bytes()


@case("card: an unknown key")
def _key(stage: Stage) -> str:
    return refused(stage, card_text() + b"\nn_event = 7\n", r"run\.n_event")


@case("card: an unknown section")
def _section(stage: Stage) -> str:
    return refused(stage, card_text() + b"\n[runs]\nseed = 7\n", "runs")


@case("card: a value of the wrong type", repeats=4)
def _type(stage: Stage) -> str:
    value = stage.rng.choice([b'"many"', b"2.5", b"true", b"[1]"])
    return refused(stage, card_text() + b"\nn_events = " + value + b"\n", r"run\.n_events = ")


@case("card: a value out of range", repeats=4)
def _range(stage: Stage) -> str:
    value = stage.rng.choice([b"0", b"-5", b"-1", b"-1000000000000"])
    return refused(stage, card_text() + b"\nn_events = " + value + b"\n", r"run\.n_events = ")


@case("card: NaN for a number")
def _nan(stage: Stage) -> str:
    arguments = run_arguments("out", "beams.energies_gev=[nan, 250.0]")
    return stage.mlgen(arguments).must_fail(2, r"beams\.energies_gev")


@case("card: not UTF-8")
def _encoding(stage: Stage) -> str:
    return refused(stage, "# Z-Teilchen: Größe\n".encode("latin-1") + card_text(), "UTF-8")


@case("card: cut off", repeats=4)
def _cut_off(stage: Stage) -> str:
    # Whole lines may be a card still.
    text = card_text()
    place = text.index(b"particles") + stage.rng.randrange(3, 20)
    return refused(stage, text[:place], ".")


@case("card: random bytes")
def _random(stage: Stage) -> str:
    return refused(stage, stage.rng.randbytes(500), "not valid TOML|UTF-8")


@case("card: a folder")
def _folder(stage: Stage) -> str:
    (stage.folder / "card.toml").mkdir()
    return stage.mlgen(["run", "card.toml"]).must_fail(2, "card.toml: cannot be read")


@case("card: not there")
def _nowhere(stage: Stage) -> str:
    return stage.mlgen(["run", "nowhere.toml"]).must_fail(2, "no such file")


@case("an option that does not exist")
def _option(stage: Stage) -> str:
    return stage.mlgen(["run", "ee_to_mumu", "--events=7"]).must_fail(2, "--events")


@case("an impossible process")
def _process(stage: Stage) -> str:
    arguments = ["run", "ee_to_mumu", "--set=process.definition=e+ e- > mu+ mu+", "-o", "out"]
    return stage.mlgen(arguments).must_fail(2, "process.definition|subprocess")


@case("cuts that leave no phase space")
def _cuts(stage: Stage) -> str:
    arguments = run_arguments("out", "cuts.leptons.pt_min_gev=400")
    finished = stage.mlgen(arguments)
    demand(finished.code in (2, 6), f"exit {finished.code}: expected 2 or 6")
    said = finished.must_fail(finished.code, ".")
    check_not_complete(stage.folder / "out")
    return said


@case("a matrix element that is 0 everywhere it is asked (cuts by a hair)")
def _hair(stage: Stage) -> str:
    arguments = run_arguments("out", "cuts.leptons.pt_min_gev=249.99999")
    finished = stage.mlgen(arguments)
    if finished.code == 0:
        check_complete(stage.folder / "out", None)
        return "exit 0, all events are there"
    said = finished.must_fail(finished.code, ".")
    demand(finished.code in (2, 6), f"exit {finished.code}: expected 2 or 6")
    check_not_complete(stage.folder / "out")
    return said


@case("fewer events than asked for can be made")
def _few(stage: Stage) -> str:
    arguments = run_arguments("out", "run.max_points=500")
    said = stage.mlgen(arguments).must_fail(6, "of 2000 events after")
    check_not_complete(stage.folder / "out")
    return said


@case("more workers than is sensible, or none", repeats=2)
def _workers(stage: Stage) -> str:
    n = stage.rng.choice(["0", "-3", "many"])
    return stage.mlgen([*run_arguments("out"), f"--workers={n}"]).must_fail(2, "--workers")


@case("run.json: damaged for --decisions", repeats=6)
def _decisions(stage: Stage) -> str:
    path = stage.folder / "run.json"
    path.write_bytes((stage.wholes.vegas.folder / "run.json").read_bytes())
    how = stage.rng.choice(["spoil", "settled", "missing"])
    if how == "spoil":
        how = "cut off"
        path.write_bytes(path.read_bytes()[: stage.rng.randrange(200)])
    elif how == "settled":
        table = json.loads(path.read_text())
        values: list[Any] = [{}, [], None, {"vegas": "x"}, {"vegas": -1.0}, {"vegas": 1e400}]
        table["settled"] = stage.rng.choice(values)
        path.write_text(json.dumps(table))
    else:
        path.unlink()
    finished = stage.mlgen([*run_arguments("out"), "--decisions", "run.json"])
    said = finished.must_fail(2, "--decisions run.json")
    demand(not (stage.folder / "out").exists(), "a folder, although nothing could be done")
    return f"{how}: {said}"


# --- densities -------------------------------------------------------------------------------


def drell_yan(*sets: str) -> list[str]:
    return ["run", "pp_to_ee", "--sampler=vegas", *(f"--set={s}" for s in sets), "-o", "out"]


@case("PDF set: missing")
def _no_set(stage: Stage) -> str:
    said = stage.mlgen(drell_yan("pdf.set=NoSuchSet")).must_fail(3, "NoSuchSet.*LHAPDF_DATA_PATH")
    check_not_complete(stage.folder / "out")
    return said


@case("PDF set: a member that does not exist")
def _no_member(stage: Stage) -> str:
    return stage.mlgen(drell_yan("pdf.member=77")).must_fail(3, "member 77")


@case("PDF set: the extra that brings it is not installed")
def _no_extra(stage: Stage) -> str:
    environment: dict[str, str | None] = {"PYTHIA8DATA": "/nowhere", "LHAPDF_DATA_PATH": None}
    # The package's own folder is looked into last: hide the set by its name.
    arguments = drell_yan("pdf.set=CT18NLO")
    return stage.mlgen(arguments, environment=environment).must_fail(3, "CT18NLO.*mlgen-hep")


@case("PDF set: a damaged grid", repeats=8)
def _grid(stage: Stage) -> str:
    place = stage.folder / "sets"
    place.mkdir()
    path = place / f"{DENSITY}_0000.dat"
    text = find_set(DENSITY, 0).read_text(encoding="utf-8")
    how = stage.rng.choice(["empty", "cut off", "a letter", "NaN", "a number is missing", "binary"])
    middle = text.index(" ", len(text) // 2)
    if how == "empty":
        path.write_text("")
    elif how == "cut off":
        path.write_text(text[:middle])
    elif how == "a letter":
        path.write_text(text[:middle] + " x" + text[middle:])
    elif how == "NaN":
        end = text.index(" ", middle + 1)
        while not text[middle:end].strip():
            middle, end = end, text.index(" ", end + 1)
        path.write_text(text[:middle] + " nan" + text[end:])
    elif how == "a number is missing":
        words = text[middle:].split(" ", 3)
        path.write_text(text[:middle] + " ".join(["", *words[2:]]))
    else:
        path.write_bytes(stage.rng.randbytes(10_000))
    finished = stage.mlgen(drell_yan(), environment={"LHAPDF_DATA_PATH": str(place)})
    said = finished.must_fail(1, rf"{DENSITY}_0000\.dat")
    check_not_complete(stage.folder / "out")
    return f"{how}: {said}"


# --- what is not installed -------------------------------------------------------------------


@case("missing extra: pyamplicol")
def _pyamplicol(stage: Stage) -> str:
    arguments = ["run", "ee_to_uug", "--set=matrix_element.provider=pyamplicol"]
    finished = stage.mlgen([*arguments, "-o", "out"], Plan(blocked=("pyamplicol",)))
    if finished.code == 0:  # what is cached needs only its runtime
        check_complete(stage.folder / "out", None)
        return "exit 0, from the cache"
    return finished.must_fail(3, "pyamplicol.*pip install")


@case("missing extra: vegas")
def _vegas(stage: Stage) -> str:
    arguments = ["compare", "ee_to_mumu", "--samplers=vegas-classic"]
    finished = stage.mlgen(arguments, Plan(blocked=("vegas",)))
    return finished.must_fail(3, "vegas")


@case("missing extra: dask")
def _dask(stage: Stage) -> str:
    arguments = [*run_arguments("out"), "--dask=tcp://127.0.0.1:1"]
    finished = stage.mlgen(arguments, Plan(blocked=("dask", "distributed")))
    return finished.must_fail(3, "dask|distributed")


@case("an incomplete installation: LHEH5's library")
def _h5py(stage: Stage) -> str:
    finished = stage.mlgen([*run_arguments("out"), "--format=lheh5"], Plan(blocked=("h5py",)))
    folder = stage.folder / "out"
    said = finished.must_fail(3, "h5py")
    if folder.exists():
        check_not_complete(folder)
    return said


@case("an event format that does not exist")
def _format(stage: Stage) -> str:
    return stage.mlgen([*run_arguments("out"), "--format=root"]).must_fail(2, r"run\.format")


# --- surroundings ----------------------------------------------------------------------------


def works(stage: Stage, environment: dict[str, str | None], output: str = "out") -> str:
    """Strange surroundings in which all goes well."""
    stage.mlgen(run_arguments(output), environment=environment, is_fresh=True).must_work()
    check_complete(stage.folder / output, stage.wholes.vegas)
    return "exit 0, the same bytes"


@case("HOME is not set, or is nowhere", repeats=2)
def _home(stage: Stage) -> str:
    return works(stage, {"HOME": stage.rng.choice([None, "/nowhere"])})


@case("TMPDIR is nowhere")
def _tmpdir(stage: Stage) -> str:
    return works(stage, {"TMPDIR": "/nowhere", "TMP": "/nowhere"})


@case("the cache folder of matrix elements is read-only")
def _cache(stage: Stage) -> str:
    environment: dict[str, str | None] = {"XDG_CACHE_HOME": "/proc/cache", "HOME": "/proc/home"}
    arguments = ["run", "ee_to_uug", "--set=matrix_element.provider=pyamplicol", "-o", "out"]
    finished = stage.mlgen(arguments, environment=environment)
    demand(finished.code in (1, 4), f"exit {finished.code}; it said {finished.messages}")
    said = finished.must_fail(finished.code, "/proc/")
    check_not_complete(stage.folder / "out")
    return said


@case("umask 077")
def _umask(stage: Stage) -> str:
    before = ("sh", "-c", 'umask 077; exec "$@"', "sh")
    stage.mlgen(run_arguments("out"), before=before).must_work()
    check_complete(stage.folder / "out", stage.wholes.vegas)
    return "exit 0, the same bytes"


@case("LANG=C and a path that is not ASCII")
def _lang(stage: Stage) -> str:
    return works(stage, {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}, "Größe-粒子")


@case("LANG=C without coercion, and a card that is not ASCII")
def _ascii(stage: Stage) -> str:
    environment: dict[str, str | None] = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    return works(stage, environment)


@case("a path that is not UTF-8")
def _bytes_path(stage: Stage) -> str:
    name = os.fsdecode(b"out-\xff\xfe")
    stage.mlgen(run_arguments(name)).must_work()
    check_complete(stage.folder / name, stage.wholes.vegas)
    return "exit 0, the same bytes"


@case("a path with spaces, quotes and brackets")
def _spaces(stage: Stage) -> str:
    return works(stage, {}, 'my "best" run\'s [bold] {x} * $HOME')


@case("a very long path")
def _long(stage: Stage) -> str:
    fitting = "/".join(["a" * 200] * 12)
    said = works(stage, {}, fitting)
    stage.mlgen(run_arguments("b" * 300)).must_fail(1, "cannot be made.*name too long")
    return f"{said}; exit 1 where a name is too long"


@case("the output folder has a name that the event file's just does not fit beside")
def _just(stage: Stage) -> str:
    # The temporary names are longer than the final ones.
    pieces = os.path.abspath(stage.folder)
    rest = 4095 - len(pieces) - len("/events.lhe.gz") - 2
    parts = ["c" * 200] * (rest // 201)
    tail = rest - 201 * len(parts)
    output = "/".join([*parts, "d" * tail] if tail > 0 else parts)
    finished = stage.mlgen(run_arguments(output))
    demand("Traceback" not in finished.err, f"a stack trace: {finished.err[-300:]}")
    demand(finished.code not in (0, 70), f"exit {finished.code}; it said {finished.messages}")
    return f"exit {finished.code}"


@case("the package is read-only, and its bytecode cannot be kept")
def _bytecode(stage: Stage) -> str:
    return works(stage, {"PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": "/proc/numba"})


@case("the working folder is gone")
def _gone(stage: Stage) -> str:
    target = stage.folder / "out"
    shell = 'mkdir lost && cd lost && rmdir ../lost && exec "$@"'
    finished = stage.mlgen(run_arguments(target), before=("sh", "-c", shell, "sh"))
    if finished.code == 0:
        check_complete(target, stage.wholes.vegas)
        return "exit 0, the same bytes"
    # torch gives up then, before mlgen begins.
    demand(not target.exists() and "Traceback" not in finished.err, finished.err[-300:])
    return f"exit {finished.code}"


@case("another environment variable of threads does not change a byte", repeats=2)
def _threads(stage: Stage) -> str:
    n = stage.rng.choice(["1", "2", "7"])
    return works(stage, {"OMP_NUM_THREADS": n, "MKL_NUM_THREADS": n, "PYTHONHASHSEED": n})


@case("exactly N events, and the cross section within 5 sigma of another seed's (control)")
def _other_seed(stage: Stage) -> str:
    folder = stage.folder / "out"
    stage.mlgen([*run_arguments("out"), "--seed=77"]).must_work()
    check_complete(folder, None)
    one, other = read_record(folder), read_record(stage.wholes.vegas.folder)
    error = (one["cross_section_error_pb"] ** 2 + other["cross_section_error_pb"] ** 2) ** 0.5
    pull = (one["cross_section_pb"] - other["cross_section_pb"]) / error
    demand(0 < abs(pull) < 5, f"pull {pull:.1f}")
    demand(one["n_events"] == other["n_events"], "another number of events")
    return f"pull {pull:.1f}"
