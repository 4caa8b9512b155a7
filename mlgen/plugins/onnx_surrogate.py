"""A surrogate as an ONNX file, for programs that know nothing of mlgen.

Inputs: `momenta` (n, n_ext, 4), float64, GeV, and `alpha_s` (n,), float64. Outputs: `value` and `std`
(n,), float64, and `covered` (n,), bool. `std` is infinite where the surrogate has seen no such point:
there the exact matrix element is to be called. What the numbers mean stands in the file's metadata.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mlgen
from mlgen.core import AmplitudeValue, SubprocessGroup
from mlgen.errors import MissingExtra, MlgenError
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.group_surrogate import GroupSurrogate
from mlgen.surrogates.surrogate import LARGEST_LOG, Surrogate

SCHEMA = "mlgen-surrogate-onnx"
SCHEMA_VERSION = 1
N_CHECKED = 1000
"""Points at which a file is compared with what it was made from, at most."""
VALUE_TOLERANCE = 1e-4
"""Relative: networks are in single precision, and sum in another order elsewhere."""
VALUE_TOLERANCE_IN_STD = 0.02
"""In standard deviations, where these are large: their recalibration may rise steeply."""
STD_TOLERANCE = 1e-2
"""Relative."""
MOST_UNDECIDED = 0.005
"""The share of points that rounding may put on the other side of the edge of what is covered."""


class _Exported(nn.Module):
    """`Surrogate.__call__` of one group, all of it tensors."""

    def __init__(self, learned: GroupSurrogate, qcd_order: int) -> None:
        super().__init__()
        self.learned = learned
        self.qcd_order = qcd_order

    def forward(self, momenta: Tensor, alpha_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_value, systematic, statistical, is_covered = self.learned(momenta)
        log_value = log_value.clamp(-LARGEST_LOG, LARGEST_LOG) + self.qcd_order * alpha_s.log()
        value = log_value.exp()
        # Not hypot, which ONNX lacks (torch 2.13).
        std = value * (systematic.square() + statistical.square()).sqrt()
        return value, torch.where(is_covered, std, torch.inf), is_covered


def export_surrogate(
    learned: GroupSurrogate, group: SubprocessGroup, path: Path, momenta: Tensor, alpha_s: Tensor
) -> None:
    """Write one group's surrogate to an ONNX file, which has its name only when it was found right.

    Args:
        learned: one of `Surrogate.of_groups`.
        group: what it is of.
        momenta: (n, n_ext, 4), GeV, at which the file is compared with the surrogate: two or more.
        alpha_s: (n,).

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        MlgenError: the file cannot be written, what was learned cannot be expressed in ONNX, the points
            tell nothing, or the file gives other numbers.
    """
    onnx, onnxruntime = _import_onnx()
    if not path.parent.is_dir():
        raise MlgenError(f"{path}: cannot be written: {path.parent} is not a folder")
    points = momenta[:N_CHECKED], alpha_s[:N_CHECKED]
    if len(points[0]) < 2 or len(points[0]) != len(points[1]):
        raise MlgenError(
            f"momenta = {len(momenta)} points, alpha_s = {len(alpha_s)}: expected as many of both, "
            "two or more"
        )
    expected = Surrogate((group,), (learned,), SurrogateCard())(*points, 0)
    if not bool(expected.std.isfinite().any()):
        raise MlgenError(f"momenta = {len(momenta)} points: expected some like those learned from")
    model = _to_onnx(_Exported(learned, group.qcd_order), points, path)
    onnx.helper.set_model_props(model, _metadata(group))
    with _whole_file(path) as partial:
        partial.write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(partial, providers=["CPUExecutionProvider"])
        inputs = {"momenta": points[0].numpy(), "alpha_s": points[1].numpy()}
        found = [torch.from_numpy(column) for column in session.run(None, inputs)]
        _check(found, expected, path)


def _import_onnx() -> tuple[Any, Any]:
    """The packages onnx and onnxruntime; torch's exporter asks for onnxscript too."""
    try:
        onnx, onnxruntime, _ = map(import_module, ("onnx", "onnxruntime", "onnxscript"))
    except ImportError as error:
        raise MissingExtra(
            f"{error.name} is not installed: ONNX files need the extra `export` "
            "(pip install 'mlgen-hep[export]')"
        ) from error
    return onnx, onnxruntime


def _to_onnx(module: nn.Module, points: tuple[Tensor, Tensor], path: Path) -> Any:
    """The model as onnx has it, for any number of points."""
    # torch.export takes a size that is met with 1 for a constant: 2 points are an example of any.
    n = torch.export.Dim("n", min=2)
    with warnings.catch_warnings(), _quiet(logging.getLogger("torch.onnx")):
        # The exporter warns of what it uses itself, and of what is not installed (torch 2.13).
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module.eval(),
                tuple(column[:2] for column in points),
                dynamo=True,
                dynamic_shapes=({0: n}, {0: n}),
                input_names=["momenta", "alpha_s"],
                output_names=["value", "std", "covered"],
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).strip().splitlines()[0]
            raise MlgenError(
                f"{path}: the surrogate cannot be written as ONNX: {reason}"
            ) from error
    if program is None:
        raise MlgenError(f"{path}: the surrogate cannot be written as ONNX")
    return program.model_proto


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Errors alone are logged inside."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _metadata(group: SubprocessGroup) -> dict[str, str]:
    """What a reader must know beside the shapes."""
    power = 8 - 2 * group.n_ext
    return {
        "schema": SCHEMA,
        "schema_version": str(SCHEMA_VERSION),
        "mlgen_version": mlgen.__version__,
        "process": group.name,
        "pdg_ids": json.dumps(group.pdg_ids),
        "qcd_order": str(group.qcd_order),
        "qed_order": str(group.qed_order),
        "momenta": "(E, px, py, pz) in GeV of each leg, in the order of pdg_ids, two incoming first, "
        "all energies positive, any frame",
        "alpha_s": "value goes as alpha_s^qcd_order",
        "value": f"|M|^2 in GeV^{power}, summed over final and averaged over initial helicities and "
        "colours, 1/n! for identical final particles included; the same for each row of pdg_ids",
        "std": "standard deviation of value; infinite where not covered",
        "covered": "whether the training sample had points like this one; elsewhere value means nothing",
    }


def _check(found: list[Tensor], expected: AmplitudeValue, path: Path) -> None:
    """Refuse a file that gives other numbers than the surrogate.

    Raises:
        MlgenError: it does.
    """
    value, std, is_covered = found
    agreed = is_covered & expected.std.isfinite()
    undecided = float((is_covered != expected.std.isfinite()).double().mean())
    allowed = torch.maximum(VALUE_TOLERANCE * expected.value, VALUE_TOLERANCE_IN_STD * expected.std)
    off = ((value - expected.value) / allowed)[agreed].abs()
    std_off = (std / expected.std - 1)[agreed].abs()
    for what, got, most in (
        ("the share of points that are covered in one of the two", undecided, MOST_UNDECIDED),
        ("the largest deviation of value over what rounding may do", _largest(off), 1.0),
        ("the largest relative deviation of std", _largest(std_off), STD_TOLERANCE),
    ):
        if not got <= most:
            raise MlgenError(
                f"{path}: not written, the ONNX model is not the surrogate: {what} = {got:.2g}: "
                f"expected at most {most:g}"
            )


def _largest(deviation: Tensor) -> float:
    return float(deviation.amax()) if len(deviation) else float("inf")


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder; what is there in the end gets the real one.

    Raises:
        MlgenError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise MlgenError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
