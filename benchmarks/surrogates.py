"""How well amplitude surrogates do: d d~ > z g g, flat phase space at 1 TeV, by training size and method.

    python benchmarks/surrogates.py --cache FOLDER [--sizes 10000 100000] [--methods gaussian] [--json FILE]

Jets have pt > 20 GeV, |eta| < 5 and distances above 0.4. The sizes are of all points that training
needs: validation and calibration count. Each surrogate is tested on the same 10^6 further points.
One torch thread, CPU time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mlgen.amplitudes.provider import AmplitudeRequest, provide
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.core import SubprocessGroup, random_stream
from mlgen.diagnostics.progress import RichProgress
from mlgen.phasespace.rambo import build_rambo
from mlgen.physics.cuts import CardCuts
from mlgen.physics.model import Model
from mlgen.physics.process import read_process
from mlgen.physics.ufo import read_model
from mlgen.surrogates.accuracy import accuracy
from mlgen.surrogates.group_surrogate import train_group
from mlgen.surrogates.sample import AmplitudeSample
from mlgen.surrogates.settings import SurrogateSettings

N_TEST = 1_000_000
N_TRAINING = 400_000
BATCH = 65_536
BEAM_ENERGY_GEV = 500.0
ALPHA_S = 0.118


def zgg_card() -> Card:
    """d d~ > z g g with the cuts of uux_to_zggg."""
    card = read_card(find_card("uux_to_zggg"))
    process = replace(card.process, name="ddx_to_zgg", definition="d d~ > z g g")
    return replace(card, process=process)


def draw_points(
    card: Card, group: SubprocessGroup, model: Model, cache: Path, n: int
) -> AmplitudeSample:
    """n points of flat phase space inside the cuts, with their matrix elements."""
    request = AmplitudeRequest(
        groups=(group,),
        model=model,
        cache_folder=cache / "matrix_elements",
        function="",
        library="",
    )
    _, amplitude = provide("pyamplicol", request, RichProgress())
    energies = BEAM_ENERGY_GEV, BEAM_ENERGY_GEV
    phase_space = build_rambo([group], model, energies, hadronic=False)
    cut = CardCuts(card.cuts, [group])
    rng = random_stream(1, "surrogate benchmark", 0)
    parts: list[AmplitudeSample] = []
    while sum(map(len, parts)) < n:
        r = torch.rand((BATCH, phase_space.n_dim + 1), generator=rng, dtype=torch.float64)
        points = phase_space.forward(r, torch.zeros(BATCH, dtype=torch.int64))
        momenta = points.momenta[cut(points.momenta, 0)]
        alpha_s = torch.full((len(momenta),), ALPHA_S, dtype=torch.float64)
        value = amplitude(momenta, alpha_s, 0).value
        parts.append(AmplitudeSample.of(momenta, value, alpha_s, group))
    momenta = torch.cat([part.momenta for part in parts])[:n]
    return AmplitudeSample(momenta=momenta, value=torch.cat([part.value for part in parts])[:n])


def cached_points(card: Card, group: SubprocessGroup, model: Model, cache: Path) -> AmplitudeSample:
    """Training points first, then test points; computed once."""
    file = cache / "ddx_to_zgg.safetensors"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        sample = draw_points(card, group, model, cache, N_TRAINING + N_TEST)
        save_file({"momenta": sample.momenta, "value": sample.value}, file)
    return AmplitudeSample(**load_file(file))


def measure(
    sample: AmplitudeSample,
    size: int,
    settings: SurrogateSettings,
    group: SubprocessGroup,
    model: Model,
) -> dict[str, Any]:
    """Train one surrogate, and test it."""
    started = time.process_time()
    surrogate, record = train_group(
        sample.select(slice(size)), group, model, settings, 1, RichProgress()
    )
    cpu_s = time.process_time() - started
    test = sample.select(slice(N_TRAINING, None))
    started = time.process_time()
    surrogate.predict(test.momenta)
    microseconds = 1e6 * (time.process_time() - started) / len(test)
    regions = {name: asdict(found) for name, found in accuracy(surrogate, test).items()}
    return {
        "method": settings.method,
        "size": size,
        "cpu_s": cpu_s,
        "us_a_point": microseconds,
        "best_step": record.best_step,
        "settings": asdict(settings),
        "regions": regions,
    }


def print_row(row: dict[str, Any]) -> None:
    head = f"{row['method']:12} {row['size']:7} {row['cpu_s']:6.0f} s {row['us_a_point']:5.2f} us"
    print(head, f"best step {row['best_step']}")
    for name, of in row["regions"].items():
        quantiles = " ".join(f"{q:.1e}" for q in of["delta_quantiles"])
        print(
            f"    {name:10} |Delta| < 0.1 %: {100 * of['precise_share']:5.1f} %, quantiles {quantiles}, "
            f"pull width {of['pull_width']:.3f} (systematic {of['systematic_pull_width']:.3f}), "
            f"coverage {of['coverage_68']:.3f} {of['coverage_95']:.3f}, "
            f"seen {of['covered_share']:.4f}",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 400_000])
    parser.add_argument("--methods", nargs="+", default=["gaussian", "repulsive"])
    parser.add_argument("--set", nargs="*", default=[], help="settings: n_steps=12000 ...")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    card = zgg_card()
    model = read_model(card.model)
    group = read_process(card.process, card.beams.particles, model)[0]
    sample = cached_points(card, group, model, options.cache)
    changes = {
        key: json.loads(value) for key, _, value in (item.partition("=") for item in options.set)
    }
    rows = []
    for size in options.sizes:
        for method in options.methods:
            settings = SurrogateSettings(method=method, **changes)
            rows.append(measure(sample, size, settings, group, model))
            print_row(rows[-1])
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
