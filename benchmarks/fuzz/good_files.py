"""Small good files, for damage to be done to."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import mlgen
from mlgen.campaign.checkpoint import RunCheckpoint, StoredRun
from mlgen.campaign.chunk_files import chunk_bytes
from mlgen.campaign.fingerprint import Fingerprint
from mlgen.campaign.pack import Pack, PackedEstimate, PackedSampler, write_pack
from mlgen.campaign.run_record import Efficiency, RunRecord
from mlgen.campaign.step_clock import StepClock
from mlgen.campaign.whole_files import write_json_atomically
from mlgen.card_files import card_folder
from mlgen.core import EventBatch, SampleInfo, Variation
from mlgen.events.formats import read_events, write_events
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.generate import Chunk, ChunkSummary
from mlgen.integration.learner import LearnerState
from mlgen.jobs.pack_job import StoredJob

REFERENCE = Path(__file__).parents[2] / "tests" / "reference" / "lhe"
SOURCE = "ab" * 32
"""What the chunk is made from."""


def made(name: str, write: Callable[[Path], None]) -> bytes:
    """The bytes of the file that a function writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def sample(n_events: int, n_variations: int, weighted: bool) -> tuple[SampleInfo, EventBatch]:
    """Events of a Z boson and a jet, with further weights."""
    info, events = read_events(REFERENCE / "pp_epemj_200.lhe.gz")
    rng = torch.Generator().manual_seed(1)
    events = events.select(slice(0, n_events))
    ratios = torch.rand(n_events, n_variations, generator=rng, dtype=torch.float64)
    weight = torch.rand(n_events, generator=rng, dtype=torch.float64) if weighted else None
    weight = torch.ones_like(events.weight) if weight is None else weight
    names = [f"MUR={i}__MUF=1__LHAPDF=247000" for i in range(n_variations)]
    info = replace(
        info,
        weighted=weighted,
        process="p p > e+ e- j",
        card='[process]\nname = "<&>"\n',
        notes=(("seed", "1"),),
        blocks=(("mlgen_shard", '{"number": 1}'),),
        variations=tuple(Variation(name=name, group="scale_variations") for name in names),
    )
    return info, replace(events, weight=weight, variations=weight[:, None] * ratios)


def _write(info: SampleInfo, events: EventBatch, path: Path) -> None:
    write_events(path, [events], info)


def _write_table(table: Mapping[str, Any], path: Path) -> None:
    write_json_atomically(path, table)


def event_files(suffix: str) -> tuple[bytes, ...]:
    """Files of ours of a format: of unit weights, of weights in pb, without further weights."""
    shapes = ((4, 2, False), (3, 3, True), (5, 0, False))
    files = []
    for shape in shapes:
        info, events = sample(*shape)
        files.append(made(f"events.{suffix}", partial(_write, info, events)))
    return tuple(files)


def others_lhe() -> tuple[bytes, ...]:
    """Heads and first events of Les Houches files of MadGraph and Pythia, as plain text."""
    files = []
    for path in sorted(REFERENCE.glob("*.lhe.gz")):
        head, *events = gzip.decompress(path.read_bytes()).split(b"<event>")
        text = b"<event>".join([head, *events[:3]])
        closing = b"</LesHouchesEvents>\n"
        files.append(text.removesuffix(closing) + closing)
    return tuple(files)


def pack() -> Pack:
    """A pack of two small samplers."""
    rng = torch.Generator().manual_seed(1)
    estimate = PackedEstimate(
        n_points=(100.0, 300.0),
        total=(0.5, 2e5),
        total_squares=(1 / 3, 5e9),
        kept=0.5,
        inside=0.9,
        inside_error=0.01,
        eps_uw=Efficiency(value=0.5, error=0.02, n=400, t=0.001),
        ess=0.8,
        overweight_fraction=0.0012,
    )
    samplers = {}
    for name, size in (("vegas", 4), ("flow", 3)):
        weight = torch.rand(size, 3, generator=rng, dtype=torch.float64)
        samplers[name] = PackedSampler(
            config={"n_bins": 6, "masks": [[0, 1], [1, 0]]},
            tensors={"weight": weight, "mask": torch.tensor([True, False])},
            fraction=(0.25, 0.75),
            w_max=(1 / 3, 2e5),
            estimate=estimate,
        )
    fingerprint = Fingerprint(
        channels_sha256=SOURCE, r=[[0.1, 0.2], [0.3, 0.7]], channel=[0, 1], value=[1e-7, 3.0]
    )
    return Pack(
        process="p p > e+ e- j",
        card='[process]\nname = "pp_to_eej"\n',
        seed=7,
        sampler="flow",
        samplers=samplers,
        provider="closed_form",
        fingerprint=fingerprint,
        tables={"eps_uw": {"flow": {"value": 0.31}}},
    )


def chunk() -> Chunk:
    """A chunk of three events."""
    _, events = sample(3, 2, True)
    numbers = torch.tensor([10.0, 20.0], dtype=torch.float64)
    sums = ChannelSums(n_points=numbers, total=numbers / 3, total_squares=numbers / 7)
    summary = ChunkSummary(
        index=0, n_events=3, n_points=30, n_calls=21, sums=sums, excess=0.1, size=2.5
    )
    return Chunk(summary=summary, events=events)


def packs() -> tuple[bytes, ...]:
    return (made("a.mlgen.zip", lambda path: write_pack(path, pack())),)


def chunks() -> tuple[bytes, ...]:
    return (chunk_bytes(chunk(), SOURCE),)


def checkpoints() -> tuple[bytes, ...]:
    """A checkpoint of one learner."""
    state = LearnerState(
        tensors={"edges": torch.linspace(0, 1, 5, dtype=torch.float64)},
        numbers={"n_rounds": 3.0, "best": 0.5},
        n_calls=100,
    )
    stored = StoredRun(
        card='[process]\nname = "a"\n',
        channels_sha256=SOURCE,
        learners={"train": state},
        measured={"flow": 1.5e-6},
        cpu_s={"adapt": 1.0},
        wall_s={"adapt": 2.0},
    )
    return (made("c.zip", lambda p: RunCheckpoint(p, stored, StepClock({"adapt": 1.0})).write()),)


def jobs() -> tuple[bytes, ...]:
    """What `mlgen generate` notes of a job: the whole of a sample, or a part."""
    files = []
    for shard in (None, (2, 5)):
        asked = StoredJob(
            pack="a.mlgen.zip",
            pack_sha256=SOURCE,
            n_events=100,
            seed=1,
            format="lhe.gz",
            shard=shard,
        )
        table = {**asdict(asked), "schema": "mlgen-job", "mlgen_version": mlgen.__version__}
        files.append(made("job.json", partial(_write_table, table)))
    return tuple(files)


def records() -> tuple[bytes, ...]:
    """The record of a run that decided something."""
    record = RunRecord(
        status="complete",
        process="p p > e+ e- j",
        seed=1,
        sampler="flow",
        settled={"vegas_point_s": 1e-6, "flow_point_s": 2e-6},
        card={"process": {"name": "a"}},
    )
    return (made("run.json", record.write),)


def cards() -> tuple[bytes, ...]:
    """Some of the cards that come with mlgen."""
    return tuple(path.read_bytes() for path in sorted(card_folder().glob("*.toml"))[::4])
