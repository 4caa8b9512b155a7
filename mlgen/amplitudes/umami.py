"""Matrix elements from a shared library with the UMAMI interface, as MadGraph 7 writes them.

The interface is defined by the header `umami.h`, version 1: events are structures of arrays, in
which component c of the momentum of leg l of event i lies at i + stride (l + n_ext c).
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mlgen.amplitudes.parameters import REFERENCE_ALPHA_S, named_parameters
from mlgen.amplitudes.probe_points import measured_power, probe_points
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.unresolved import Unresolved, check_values
from mlgen.core import Progress, SubprocessGroup
from mlgen.errors import CardError, MatrixElementError, UnsupportedProcess

_SUCCESS, _UNSUPPORTED_INPUT = 0, 3
_STATUS_NAMES = ("success", "error", "not implemented", "unsupported input", "unsupported output")
"""Of the codes that mean the same in each version of the interface; 5 and more do not."""
_DEVICE_META, _PARTICLE_COUNT_META = 0, 1
_CPU = 0
_MOMENTA_IN, _ALPHA_S_IN = 0, 1
_MATRIX_ELEMENT_OUT = 0
_ALPHA_S_PARAMETER = "aS"

_SYMBOLS = (
    "umami_get_meta",
    "umami_initialize",
    "umami_set_parameter",
    "umami_get_parameter",
    "umami_matrix_element",
    "umami_free",
)


def provide(request: AmplitudeRequest, progress: Progress) -> UmamiAmplitude:
    """The amplitude in the library, or libraries, that `matrix_element.library` names.

    One library serves one group. `{pdg_ids}` in the name stands for the group's first flavour
    assignment, as in `libraries/{pdg_ids}.so` for `libraries/2_-2_-11_11_21.so`.

    Model parameters of the card are set where the library knows them by their names in MadGraph's
    `sm`; all others are the library's own.

    Raises:
        CardError: there is no such file.
        UnsupportedProcess: one library is named for several groups, or it is for other legs.
        MatrixElementError: it lacks a function of the interface, fails, or goes with another power
            of alpha_s than the process.
    """
    if len(request.groups) > 1 and "{pdg_ids}" not in request.library:
        raise UnsupportedProcess(
            f"matrix_element.library = {request.library!r}: expected {{pdg_ids}} in the name, to "
            f"be replaced by 2_-2_11_-11 for u u~ > e- e+, as there are {len(request.groups)} "
            "groups and a library serves one"
        )
    parameters = named_parameters(request.model)
    paths = tuple(
        Path(request.library.replace("{pdg_ids}", "_".join(map(str, group.pdg_ids[0]))))
        for group in request.groups
    )
    amplitude = UmamiAmplitude(request.groups, paths, parameters)
    with progress.step("preparing the matrix element", len(paths)) as advance:
        for index, (group, path) in enumerate(zip(request.groups, paths, strict=True)):
            masses = [request.model.mass_gev(pdg) for pdg in group.pdg_ids[0]]
            amplitude.check(index, masses)
            advance(1, path.name)
    return amplitude


class UmamiAmplitude(Unresolved):
    """|M|² of each group from a library of its own. It can be sent to other processes."""

    def __init__(
        self,
        groups: Sequence[SubprocessGroup],
        paths: tuple[Path, ...],
        parameters: Mapping[str, float],
    ) -> None:
        super().__init__(groups)
        self._paths = paths
        self._parameters = parameters
        self._libraries: dict[int, UmamiLibrary] = {}

    def __reduce__(self) -> tuple[type[UmamiAmplitude], tuple[object, ...]]:
        # A handle stays in its process; a copy elsewhere opens the library when first used.
        return UmamiAmplitude, (self.groups, self._paths, self._parameters)

    def value(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        return self._library(group).value(momenta, alpha_s).to(momenta.device)

    def check(self, group: int, masses_gev: Sequence[float]) -> None:
        """Compare the power of alpha_s with the group's, at one point.

        Raises:
            MatrixElementError: they differ.
        """
        factors = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
        point = probe_points(masses_gev, 1).expand(3, -1, -1)
        values = self.value(point, REFERENCE_ALPHA_S * factors, group).tolist()
        expected = self.groups[group].qcd_order
        positive = all(value > 0 for value in values)
        if not positive or measured_power(values, factor=2) != expected:
            raise MatrixElementError(
                f"{self._paths[group]} for {self.groups[group].name}: |M|² = {values} at alpha_s = "
                f"{REFERENCE_ALPHA_S} times 1, 2, 4: expected positive values that go as alpha_s^{expected}"
            )

    def _library(self, group: int) -> UmamiLibrary:
        if group not in self._libraries:
            asked = self.groups[group]
            self._libraries[group] = UmamiLibrary(
                self._paths[group], asked.n_ext, asked.qcd_order, self._parameters
            )
        return self._libraries[group]


class UmamiLibrary:
    """One matrix element of one library. Not to be called by two threads at a time."""

    def __init__(
        self, path: Path, n_ext: int, alpha_s_power: int, parameters: Mapping[str, float]
    ) -> None:
        """Open a library and make an instance of its matrix element.

        Raises:
            CardError: there is no such file.
            UnsupportedProcess: it is for another number of legs, or for another device.
            MatrixElementError: it cannot be loaded, or fails.
        """
        if not path.is_file():
            raise CardError(f"matrix_element.library = {str(path)!r}: expected a shared library")
        self._path = path
        self._alpha_s_power = alpha_s_power
        try:
            self._library = ctypes.CDLL(str(path.resolve()))
            self._functions = {name: getattr(self._library, name) for name in _SYMBOLS}
        except (OSError, AttributeError) as error:
            raise MatrixElementError(
                f"matrix_element.library = {str(path)!r}: expected a shared library with the "
                f"UMAMI interface ({error})"
            ) from error
        _declare(self._functions)
        self._check_meta("external legs", _PARTICLE_COUNT_META, n_ext)
        self._check_meta("a device (0: CPU)", _DEVICE_META, _CPU)
        self._handle = ctypes.c_void_p()
        self._call("umami_initialize", ctypes.byref(self._handle), b"")
        weakref.finalize(self, self._functions["umami_free"], self._handle)
        for name, value in parameters.items():
            # A library need not know all parameters of the model.
            self._functions["umami_set_parameter"](self._handle, name.encode(), value, 0.0)
        self._takes_alpha_s = True

    def value(self, momenta: Tensor, alpha_s: Tensor) -> Tensor:
        """|M|² (n,), on the CPU, at the momenta (n, n_ext, 4), GeV, and alpha_s (n,).

        Where the library takes no alpha_s, its own is scaled.
        """
        layout = momenta.detach().double().cpu().permute(2, 1, 0).contiguous()
        coupling = alpha_s.detach().double().cpu().contiguous()
        value = torch.zeros(len(momenta), dtype=torch.float64)
        status = _UNSUPPORTED_INPUT
        if self._takes_alpha_s:
            inputs = {_MOMENTA_IN: layout, _ALPHA_S_IN: coupling}
            status = self._evaluate(inputs, value)
        if status == _UNSUPPORTED_INPUT:
            status = self._evaluate({_MOMENTA_IN: layout}, value)
            if status == _SUCCESS:
                self._takes_alpha_s = False
                value *= (coupling / self._own_alpha_s()) ** self._alpha_s_power
        self._check(status, "umami_matrix_element")
        check_values(value, momenta, f"|M|² of {self._path}")
        return value

    def _evaluate(self, inputs: Mapping[int, Tensor], value: Tensor) -> int:
        keys = (ctypes.c_int * len(inputs))(*inputs)
        pointers = (ctypes.c_void_p * len(inputs))(*(x.data_ptr() for x in inputs.values()))
        output_keys = (ctypes.c_int * 1)(_MATRIX_ELEMENT_OUT)
        outputs = (ctypes.c_void_p * 1)(value.data_ptr())
        n = len(value)
        status: int = self._functions["umami_matrix_element"](
            self._handle, n, n, 0, len(inputs), keys, pointers, 1, output_keys, outputs
        )
        return status

    def _own_alpha_s(self) -> float:
        """What the library computes with, where it takes no alpha_s for each event."""
        if self._alpha_s_power == 0:
            return 1.0
        real, imaginary = ctypes.c_double(), ctypes.c_double()
        status = self._functions["umami_get_parameter"](
            self._handle, _ALPHA_S_PARAMETER.encode(), ctypes.byref(real), ctypes.byref(imaginary)
        )
        if status != _SUCCESS or not (math.isfinite(real.value) and real.value > 0):
            raise MatrixElementError(
                f"{self._path}: expected a library that takes alpha_s for each event, or tells its "
                f"parameter {_ALPHA_S_PARAMETER!r}"
            )
        return real.value

    def _check_meta(self, what: str, key: int, expected: int) -> None:
        found = ctypes.c_int(-1)
        self._call("umami_get_meta", key, ctypes.byref(found))
        if found.value != expected:
            raise UnsupportedProcess(
                f"{self._path}: {what} = {found.value}: expected {expected} for this process"
            )

    def _call(self, name: str, *arguments: object) -> None:
        self._check(self._functions[name](*arguments), name)

    def _check(self, status: int, name: str) -> None:
        if status != _SUCCESS:
            said = _STATUS_NAMES[status] if status < len(_STATUS_NAMES) else "see its umami.h"
            raise MatrixElementError(
                f"{self._path}: {name} gave status {status} ({said}): expected 0"
            )


def _declare(functions: Mapping[str, ctypes._NamedFuncPointer]) -> None:
    handle, text, size, key = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
    real, pointer = ctypes.c_double, ctypes.c_void_p
    signatures: dict[str, list[type]] = {
        "umami_get_meta": [key, pointer],
        "umami_initialize": [pointer, text],
        "umami_set_parameter": [handle, text, real, real],
        "umami_get_parameter": [handle, text, pointer, pointer],
        "umami_matrix_element": [
            *(handle, size, size, size),
            *(size, pointer, pointer),
            *(size, pointer, pointer),
        ],
        "umami_free": [handle],
    }
    for name, argument_types in signatures.items():
        functions[name].argtypes = argument_types
        functions[name].restype = ctypes.c_int
