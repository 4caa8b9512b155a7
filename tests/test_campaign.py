"""Packs, chunks, workers, parts: the same events, whatever makes them."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlgen.api import generate, merge, resume, resume_train, run, train
from mlgen.campaign.pack import Pack, read_pack, write_pack
from mlgen.campaign.whole_files import checksum, write_bytes_atomically
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.cli import run_arguments
from mlgen.core import EventBatch
from mlgen.errors import CardError, EventFileError, MlgenError, PackError
from mlgen.events.check import check_file
from mlgen.events.formats import open_reader, read_events
from mlgen.integration.estimate import ChannelSums
from tests.campaign.dask_processes import dask_process, dask_scheduler
from tests.stopping import StopsAt

N_EVENTS = 3000
SETTINGS = (
    f"run.n_events={N_EVENTS}",
    "run.n_estimate=20_000",
    "run.chunk_size=512",
    "run.overweight_budget=0.02",
    "vegas.n_points=2000",
    "vegas.n_iterations=3",
    "vegas.n_bins=8",
)
FLOW = (
    "run.sampler=flow",
    "flow.n_bins=4",
    "flow.n_hidden=8",
    "flow.batch_size=256",
    "flow.n_steps=32",
)


def quick_card(*overrides: str) -> Card:
    """Of a process whose weights spread."""
    return read_card(find_card("pp_to_ee"), (*SETTINGS, "run.sampler=vegas", *overrides))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "a.mlgen.zip"
    return train(quick_card(), path).path


@pytest.fixture(scope="module")
def whole(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The events of the pack, made in one go."""
    return generate(pack, tmp_path_factory.mktemp("whole") / "out").events_path


@pytest.fixture(scope="module")
def parts(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The event files of the three parts."""
    folder = tmp_path_factory.mktemp("parts")
    return [
        generate(pack, folder / str(number), shard=(number, 3)).events_path for number in (1, 2, 3)
    ]


# --- packs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [(), FLOW, ("run.weighted=true",)])
def test_a_pack_makes_the_events_of_the_run_that_would_have_learned_it(
    overrides: Sequence[str], tmp_path: Path
) -> None:
    card = quick_card(*overrides)
    result = run(card, tmp_path / "run")
    trained = train(card, tmp_path / "b.mlgen.zip")
    assert not (tmp_path / "b.mlgen.zip.partial").exists()
    made = generate(trained.path, tmp_path / "made")
    assert checksum(made.events_path) == checksum(result.events_path)
    assert checksum(trained.path) == checksum(tmp_path / "run" / "pp_to_ee.mlgen.zip")
    assert made.record.cross_section_pb == result.record.cross_section_pb
    assert made.record.eps_uw == result.record.eps_uw
    assert made.record.channels == result.record.channels


def test_another_seed_gives_other_events_of_the_same_cross_section(
    pack: Path, whole: Path, tmp_path: Path
) -> None:
    other = generate(pack, tmp_path / "out", seed=2)
    first, second = read_events(whole)[1], other.events
    assert not torch.isin(second.momenta[:, 2, 0], first.momenta[:, 2, 0]).any()
    info = read_events(whole)[0]
    error = math.hypot(info.cross_section_error_pb, other.record.cross_section_error_pb or 0)
    assert abs(info.cross_section_pb - (other.record.cross_section_pb or 0)) < 5 * error
    assert error < 0.05 * info.cross_section_pb


def test_more_events_begin_with_those_that_fewer_would_be(pack: Path, tmp_path: Path) -> None:
    few, many = (generate(pack, tmp_path / str(n), n_events=n).events for n in (100, 700))
    assert (len(few), len(many)) == (100, 700)
    assert torch.equal(few.momenta, many.momenta[:100])


def changed(path: Path, pack: Pack) -> Path:
    write_pack(path, pack)
    return path


def test_a_pack_of_another_integrand_is_refused(pack: Path, tmp_path: Path) -> None:
    found = read_pack(pack)
    other = changed(
        tmp_path / "cut.mlgen.zip",
        replace(found, card=found.card.replace("[6500.0, 6500.0]", "[7000.0, 7000.0]")),
    )
    assert read_pack(other).card != found.card
    with pytest.raises(PackError, match="the pack is of another integrand"):
        generate(other, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "failed"
    fewer = changed(
        tmp_path / "ee.mlgen.zip", replace(found, card=found.card.replace("e+ e-", "mu+ mu-"))
    )
    with pytest.raises(PackError, match="the pack is of other subprocesses or channels"):
        generate(fewer, tmp_path / "out2")


def test_a_pack_that_drops_all_channels_of_a_group_is_refused(pack: Path, tmp_path: Path) -> None:
    found = read_pack(pack)
    sampler = found.chosen
    none_of_the_first = replace(sampler, fraction=(0.0, *sampler.fraction[1:]))
    other = changed(tmp_path / "a.mlgen.zip", replace(found, samplers={"vegas": none_of_the_first}))
    with pytest.raises(PackError, match="the pack is damaged"):
        generate(other, tmp_path / "out")


def test_a_folder_in_which_a_run_was_killed_at_once_is_as_good_as_empty(
    pack: Path, whole: Path, tmp_path: Path
) -> None:
    (tmp_path / ".checkpoint.zip.77.partial").write_bytes(b"half")
    assert checksum(generate(pack, tmp_path).events_path) == checksum(whole)
    with pytest.raises(CardError, match="expected a new or an empty folder"):
        generate(pack, tmp_path)


def test_a_pack_is_not_replaced(pack: Path) -> None:
    with pytest.raises(CardError, match=r"--output .*: expected a file that does not exist yet"):
        train(quick_card(), pack)
    with pytest.raises(CardError, match=r"expected a name that ends in \.mlgen\.zip"):
        train(quick_card(), pack.with_suffix(".pack"))


def test_a_training_that_is_interrupted_goes_on_to_the_same_pack(
    pack: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.mlgen.zip"
    progress = StopsAt("measuring vegas", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        train(quick_card(), path, progress=progress)
    folder = tmp_path / "a.mlgen.zip.partial"
    assert caught.value.__notes__ == [f"`mlgen train --resume {folder}` goes on with this run"]
    with pytest.raises(CardError, match=r"a training: expected `mlgen train --resume"):
        resume(folder)
    assert not path.exists()
    assert checksum(resume_train(folder).path) == checksum(pack)
    assert not folder.exists()


# --- workers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [2, 3])
def test_the_file_does_not_depend_on_the_number_of_workers(
    n_workers: int, pack: Path, whole: Path, tmp_path: Path
) -> None:
    made = generate(pack, tmp_path / "out", workers=n_workers)
    assert checksum(made.events_path) == checksum(whole)
    assert made.record.warnings == ()


def test_a_run_with_workers_leaves_what_a_run_without_leaves(tmp_path: Path) -> None:
    card = quick_card(*FLOW)
    alone, together = (run(card, tmp_path / str(n), workers=n) for n in (1, 2))
    for name in ("events.lhe.gz", "pp_to_ee.mlgen.zip"):
        assert checksum(alone.folder / name) == checksum(together.folder / name)
    assert not (together.folder / "chunks").exists()


@pytest.mark.parametrize("format", ["lhe", "lheh5"])
def test_every_format_holds_the_same_events(
    format: str, pack: Path, whole: Path, tmp_path: Path
) -> None:
    made = generate(pack, tmp_path / "out", format=format, workers=2)
    assert made.events_path.name == f"events.{format}"
    assert check_file(made.events_path).is_good
    expected = read_events(whole)[1]
    for name in ("momenta", "weight", "pdg_id", "colour"):
        assert torch.equal(getattr(made.events, name), getattr(expected, name))


def test_a_format_that_nobody_writes_is_refused_before_anything_is_done(
    pack: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        CardError, match=r"run\.format = 'root': expected one of h5, hdf5, lhe, lhe\.gz"
    ):
        generate(pack, tmp_path / "out", format="root")
    with pytest.raises(CardError, match=r"run\.format = 'root'"):
        run(quick_card('run.format="root"'), tmp_path / "out2")


def test_the_workers_of_a_dask_scheduler_make_the_same_file(
    pack: Path, whole: Path, tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="needs the extra `cluster`")
    with (
        dask_scheduler(tmp_path) as (_, address),
        dask_process("worker", address, "--nworkers=2", "--nthreads=1"),
    ):
        arguments = ["generate", str(pack), "--dask", address, "-o", str(tmp_path / "out")]
        assert run_arguments(arguments) == 0
    assert checksum(tmp_path / "out" / "events.lhe.gz") == checksum(whole)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["cpu_s"]["generate"] > 0.1, "what the workers took counts"


# --- stopping --------------------------------------------------------------------------------


def stopped(pack: Path, folder: Path, n: int, title: str = "generating") -> list[Path]:
    """Interrupt the making of events; the chunks that are left."""
    with pytest.raises(KeyboardInterrupt) as caught:
        generate(pack, folder, progress=StopsAt(title, n, KeyboardInterrupt()))
    assert caught.value.__notes__ == [f"`mlgen run --resume {folder}` goes on with this run"]
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    return sorted((folder / "chunks").iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_events_go_on_from_the_chunks_that_were_made_to_the_same_bytes(
    workers: int, pack: Path, whole: Path, tmp_path: Path
) -> None:
    # The first advance is of what was there before.
    left = stopped(pack, tmp_path, 4)
    assert [path.name for path in left] == ["000000.zip", "000001.zip", "000002.zip"]
    made = resume(tmp_path, workers=workers)
    assert checksum(made.events_path) == checksum(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.lhe.gz", "run.json"]


def test_a_stop_while_the_file_is_written_costs_no_chunk(
    pack: Path, whole: Path, tmp_path: Path
) -> None:
    left = stopped(pack, tmp_path, 1, "writing events.lhe.gz")
    times = [path.stat().st_mtime_ns for path in left]
    again = StopsAt("writing events.lhe.gz", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path, progress=again)
    assert again.seen.count("generating") == 1, "what was there before"
    assert [path.stat().st_mtime_ns for path in left] == times
    assert not list(tmp_path.glob("events*"))
    assert checksum(resume(tmp_path).events_path) == checksum(whole)


@pytest.mark.parametrize("what", ["damaged", "truncated", "of another sample", "another chunk"])
def test_a_chunk_that_is_not_right_is_made_again(
    what: str, pack: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    path = stopped(pack, folder, 4)[1]
    content = path.read_bytes()
    if what == "damaged":
        path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    elif what == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif what == "another chunk":
        path.write_bytes(path.with_name("000000.zip").read_bytes())
    else:
        progress = StopsAt("generating", 4, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            generate(pack, tmp_path / "other", seed=2, progress=progress)
        path.write_bytes((tmp_path / "other" / "chunks" / path.name).read_bytes())
    assert checksum(resume(folder).events_path) == checksum(whole)


def test_another_pack_does_not_go_on_with_the_chunks(pack: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.mlgen.zip"
    mine.write_bytes(pack.read_bytes())
    stopped(mine, tmp_path / "out", 3)
    write_pack(mine, replace(read_pack(mine), tables={"changed": 1}))
    with pytest.raises(PackError, match="another pack than before: expected sha256"):
        resume(tmp_path / "out")


# --- parts -----------------------------------------------------------------------------------


def all_events(path: Path) -> EventBatch:
    return read_events(path)[1]


def test_parts_join_to_the_sample_that_was_made_in_one_go(
    parts: list[Path], whole: Path, tmp_path: Path
) -> None:
    for path in parts:
        assert check_file(path).is_good
    merged = merge([parts[2], parts[0], parts[1]], tmp_path / "merged.lhe.gz")
    assert merged.n_events == N_EVENTS
    assert check_file(merged.path).is_good
    (info, events), (expected_info, expected) = read_events(merged.path), read_events(whole)
    assert info.cross_section_pb == expected_info.cross_section_pb == merged.cross_section_pb
    assert info.cross_section_error_pb == expected_info.cross_section_error_pb
    for name in ("pdg_id", "status", "mothers", "colour", "momenta", "mass", "spin", "scale"):
        assert torch.equal(getattr(events, name), getattr(expected, name)), name
    # An overweight is divided by a number and multiplied with another on its way.
    torch.testing.assert_close(events.weight, expected.weight, rtol=1e-15, atol=0)
    assert (events.weight == expected.weight).double().mean() > 0.98
    assert (
        dict(info.notes)["overweight_fraction"] == dict(expected_info.notes)["overweight_fraction"]
    )


def test_the_cross_section_of_a_part_is_of_its_own_points(parts: list[Path], whole: Path) -> None:
    """And of those that measured the sampler: all parts share those."""
    sigmas = {read_events(path)[0].cross_section_pb for path in parts}
    assert len(sigmas) == 3
    expected = read_events(whole)[0]
    for path in parts:
        info = read_events(path)[0]
        pull = (info.cross_section_pb - expected.cross_section_pb) / info.cross_section_error_pb
        assert abs(pull) < 5


def test_parts_of_other_formats_join_as_well(pack: Path, whole: Path, tmp_path: Path) -> None:
    files = [
        generate(pack, tmp_path / str(i), shard=(i, 2), format=format).events_path
        for i, format in ((1, "lheh5"), (2, "lhe"))
    ]
    merged = merge(files, tmp_path / "merged.lheh5")
    assert torch.equal(all_events(merged.path).momenta, all_events(whole).momenta)


def test_a_part_that_is_there_twice_is_refused(parts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(EventFileError, match=r"is there 2 times, in .* and .*: expected each part"):
        merge([*parts, parts[1]], tmp_path / "merged.lhe")


def test_a_part_that_is_missing_is_named(parts: list[Path], tmp_path: Path) -> None:
    with open_reader(parts[1]) as reader:
        chunks = json.loads(dict(reader.info.blocks)["mlgen_shard"])["chunks"]
    span = f"{chunks[0]['index']}-{chunks[-1]['index']}"
    with pytest.raises(EventFileError, match=rf"chunks {span} of \d+ are missing: expected all"):
        merge([parts[0], parts[2]], tmp_path / "merged.lhe")
    assert list(tmp_path.iterdir()) == []


def test_parts_of_different_samples_do_not_join(
    pack: Path, parts: list[Path], tmp_path: Path
) -> None:
    other = generate(pack, tmp_path / "out", shard=(2, 3), seed=2).events_path
    with pytest.raises(EventFileError, match=r"source = .*seed 2 .*: expected .*seed 1"):
        merge([parts[0], other, parts[2]], tmp_path / "merged.lhe")


def test_a_file_that_is_no_part_does_not_join(
    parts: list[Path], whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(EventFileError, match="no part of a sample: expected a file of `mlgen gen"):
        merge([*parts, whole], tmp_path / "merged.lhe")


def test_a_truncated_part_leaves_no_file(parts: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.lhe.gz"
    cut.write_bytes(parts[2].read_bytes()[:-2000])
    with pytest.raises(EventFileError, match="truncated"):
        merge([parts[0], parts[1], cut], tmp_path / "merged.lhe")
    assert list(tmp_path.iterdir()) == [cut]


def test_more_events_than_the_parts_hold_are_an_error_that_says_how_many(
    parts: list[Path], tmp_path: Path
) -> None:
    there = sum(len(all_events(path)) for path in parts)
    with pytest.raises(EventFileError, match=rf"{there} events in all parts: expected 99999; --n-"):
        merge(parts, tmp_path / "merged.lhe", n_events=99999)
    merged = merge(parts, tmp_path / "merged.lhe", n_events=there)
    assert check_file(merged.path).is_good
    assert merged.n_events == there > N_EVENTS


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0), (1, 10_000)])
def test_parts_that_cannot_be_are_refused(
    shard: tuple[int, int], pack: Path, tmp_path: Path
) -> None:
    with pytest.raises(CardError, match=rf"--shard {shard[0]}/{shard[1]}: expected"):
        generate(pack, tmp_path / "out", shard=shard)


# --- weights ---------------------------------------------------------------------------------


def test_a_large_budget_leaves_events_partially_unweighted(tmp_path: Path) -> None:
    """More events of the same points, whose weights spread and still average to the cross section."""
    strict, loose = (
        run(quick_card(f"run.overweight_budget={t}"), tmp_path / str(t)) for t in (0.001, 0.3)
    )
    eps_strict, eps_loose = strict.record.eps_uw, loose.record.eps_uw
    assert eps_strict is not None
    assert eps_loose is not None
    assert eps_loose.value > 1.5 * eps_strict.value
    info, events = read_events(loose.events_path)
    assert float(events.weight.mean()) == pytest.approx(info.cross_section_pb, rel=1e-12)
    unit = float(events.weight.min())
    excess = float((events.weight - unit).sum() / events.weight.sum())
    assert excess == pytest.approx(0.3, rel=0.2)
    assert loose.record.overweight_fraction == pytest.approx(excess, rel=0.1)
    kish = float(events.weight.sum() ** 2 / events.weight.square().sum())
    assert loose.record.kish_effective_size == pytest.approx(kish, rel=1e-9)
    assert kish < 0.95 * N_EVENTS
    head = gzip.decompress(loose.events_path.read_bytes())[:20_000].decode()
    noted = re.search(r"kish_effective_size = (\S+)", head)
    assert noted is not None
    assert float(noted[1]) == pytest.approx(kish, rel=1e-5)
    assert f"overweight_fraction = {loose.record.overweight_fraction:.6g}\n" in head
    assert check_file(loose.events_path).is_good


# --- decisions -------------------------------------------------------------------------------


def test_recorded_times_decide_as_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlgen.integration.integrator.NOT_WORTH_MEASURING_S", 0.0)
    card = quick_card(*FLOW, "run.sampler=auto")
    first = run(card, tmp_path / "first")
    settled = first.record.settled
    assert {"vegas.us_per_point", "costs.us_per_point", "costs.s_per_step"} <= set(settled)
    again = run(card, tmp_path / "again", decisions=tmp_path / "first" / "run.json")
    assert again.record.settled == settled
    assert again.record.decisions[0].reason == first.record.decisions[0].reason
    assert checksum(again.events_path) == checksum(first.events_path)
    # Times that say that points are dear, and steps for nothing, make the run train.
    dear = {name: 1e6 if name == "vegas.us_per_point" else 1e-6 for name in settled}
    record = json.loads((tmp_path / "first" / "run.json").read_text())
    (tmp_path / "dear.json").write_text(json.dumps(record | {"settled": dear}))
    trained = run(card, tmp_path / "trained", decisions=tmp_path / "dear.json")
    assert "flow" in trained.record.samplers
    assert trained.record.sampler == "flow"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"settled": {}}',
        '{"settled": {"a": -1}}',
        '{"settled": {"guide.n_points": -1}}',
        '{"settled": {"vegas.us_per_point": 0}}',
        '{"settled": {"vegas.us_per_point": NaN}}',
        '{"settled": 3}',
    ],
)
def test_a_record_without_times_decides_nothing(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(CardError, match=r"--decisions .*run\.json"):
        run(quick_card(), tmp_path / "out", decisions=path)
    assert not (tmp_path / "out").exists()


# --- the answer ------------------------------------------------------------------------------


def test_sums_of_all_chunks_are_the_cross_section(pack: Path, parts: list[Path]) -> None:
    """Chunk by chunk, as the parts note them, with the points that measured the sampler."""
    sums = read_pack(pack).chosen.estimate.sums
    for path in parts:
        with open_reader(path) as reader:
            table = json.loads(dict(reader.info.blocks)["mlgen_shard"])
        for chunk in table["chunks"]:
            columns = {k: torch.tensor(v, dtype=torch.float64) for k, v in chunk["sums"].items()}
            sums += ChannelSums(**columns)
    n_points = float(sums.n_points.sum())
    assert n_points == 20_000 + 512 * table["n_chunks"]
    merged = generate(pack, parts[0].parent.parent / "again")
    assert merged.record.cross_section_pb == pytest.approx(sums.mean, rel=1e-12)


def test_a_disk_that_takes_no_chunk_is_an_error_and_the_events_go_on_later(
    pack: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_left = 3

    def full(path: Path, content: bytes) -> None:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise MlgenError(f"{path}: cannot be written: No space left on device")
        write_bytes_atomically(path, content)

    with monkeypatch.context() as patched:
        patched.setattr("mlgen.campaign.chunk_files.write_bytes_atomically", full)
        with pytest.raises(MlgenError, match="No space left on device") as caught:
            generate(pack, tmp_path / "out")
    assert "what was done is kept" in caught.value.__notes__[0]
    assert len(list((tmp_path / "out" / "chunks").iterdir())) == 3
    assert checksum(resume(tmp_path / "out").events_path) == checksum(whole)
