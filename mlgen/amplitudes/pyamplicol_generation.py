"""One run of pyamplicol's generator, in a subprocess."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlgen.amplitudes.pyamplicol_runtime import package_folder
from mlgen.errors import MatrixElementError, UnsupportedProcess

OPTIONS = (
    "--coupling-order-policy=explicit",
    # Made in a quarter of the time of the default (recurrence) and faster to evaluate.
    "--execution-mode=compiled",
    "--no-emit-api-bundle",
    "--no-symbolica-suggestion",
    "--progress=log",
)
ALTERNATIVES = (
    "set matrix_element.provider to umami, with a library from another generator, or to python, "
    "with a function of your own"
)
_STANDARD_MODEL = Path("assets", "models", "ufo", "sm")
"""In pyamplicol: the Universal FeynRules Output of the model that is MadGraph's `sm` too."""
_STAGE = re.compile(r"progress: generation (\d+)/(\d+)")
_NO_SUCH_PROCESS = ("no model-supported tree-level amplitudes", "no concrete")


def generate(
    processes: Sequence[str],
    artifact: Path,
    *,
    ufo_folder: str,
    colour: str,
    orders: Mapping[str, int],
    model_cache: Path,
    advance: Callable[[float, str], None],
) -> None:
    """Make one artifact of several processes; the progress advances by 1 for each.

    Args:
        artifact: the folder to make, in an empty one.
        ufo_folder: a model, of which no restriction card is applied; empty for the Standard Model.
        orders: the highest power of each coupling in the amplitude.
        model_cache: a folder to keep compiled models in.

    Raises:
        UnsupportedProcess: pyamplicol knows no such process.
        MatrixElementError: it fails.
    """
    title = f"{', '.join(processes)} ({colour} colour)"
    first, *others = processes
    command = [sys.executable, "-m", "pyamplicol", "generate", first, str(artifact)]
    for process in others:
        command += ["--process", process]
    for name, order in orders.items():
        command += ["--max-coupling-order", f"{name}={order}"]
    command += _model_options(ufo_folder, artifact.parent)
    command += [f"--color-accuracy={colour}", *OPTIONS]
    command += [f"--model-cache-dir={model_cache}"]
    _run(command, artifact.parent, title, len(processes), advance)


def _model_options(ufo_folder: str, staging: Path) -> list[str]:
    if ufo_folder:
        # pyamplicol 1.0.1 applies a default restriction card wherever it finds one.
        model = staging / Path(ufo_folder).resolve().name
        ignored = shutil.ignore_patterns("restrict_*.dat", "__pycache__")
        shutil.copytree(ufo_folder, model, ignore=ignored)
        return [f"--model={model}"]
    # With this restriction, the UFO Standard Model is that of MadGraph: massive b and tau. The
    # built-in model of pyamplicol 1.0.1 fixes the weak mixing angle at generation: a Z mass set
    # later leaves its couplings wrong; and its b quark and tau are massless.
    return [f"--model={package_folder() / _STANDARD_MODEL}", "--restriction=default"]


def _run(
    command: Sequence[str],
    folder: Path,
    title: str,
    length: int,
    advance: Callable[[float, str], None],
) -> None:
    """Run a generation in a folder, and turn its stages into a progress of a given length."""
    done = 0.0
    advance(0, title)
    last_lines: deque[str] = deque(maxlen=200)
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "SYMBOLICA_HIDE_BANNER": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as child:
        try:
            for line in child.stderr or ():
                last_lines.append(line.rstrip())
                stage = _STAGE.search(line)
                if stage:
                    now = length * int(stage[1]) / int(stage[2])
                    advance(now - done, title)
                    done = now
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        _explain(title, child.returncode, list(last_lines))
    advance(length - done, title)


def _explain(title: str, returncode: int, lines: Sequence[str]) -> None:
    said = [line for line in lines if line and not line.startswith("INFO")]
    text = " | ".join((said or list(lines))[-3:]) or "it said nothing"
    if returncode < 0:
        likely = {
            -6: "another process of this user probably runs Symbolica, which unlicensed allows "
            "only one at a time",
            -9: "it was probably stopped for want of memory",
        }.get(returncode, "it crashed")
        raise MatrixElementError(
            f"pyamplicol making {title} was ended by signal {-returncode}: {likely}; {text}"
        )
    if any(reason in text for reason in _NO_SUCH_PROCESS):
        raise UnsupportedProcess(f"pyamplicol could not make {title}: {text}; {ALTERNATIVES}")
    raise MatrixElementError(f"pyamplicol could not make {title}: {text}")
