"""Faults of LHEH5 files: what plants each, and the kind and a part of the text that is found."""

from __future__ import annotations

from collections.abc import Callable

from tests.events.planting import cell, negated, shifted

PlantBytes = Callable[[bytes], bytes]


def flipped(at: float) -> PlantBytes:
    """Change a bit at this share of the length of a file."""

    def plant(content: bytes) -> bytes:
        damaged = bytearray(content)
        damaged[int(at * len(content))] ^= 1
        return bytes(damaged)

    return plant


# The particles of the first event are those of `event_faults`; its weight is three units.
LHEH5: dict[str, tuple[PlantBytes, str, str]] = {
    "truncated in the middle": (lambda b: b[: len(b) // 2], "document", "damaged"),
    "last byte missing": (lambda b: b[:-1], "document", ""),
    "no tables": (lambda b: b[:100], "document", ""),
    "a bit of the numbers flipped": (flipped(0.9), "document", ""),
    "a number that its checksum contradicts": (
        cell("particles", 4, "spin", 0.5, with_checksums=True),
        "document",
        "its checksum is wrong",
    ),
    "more particles than there are": (cell("events", 19, "nparticles", 400), "document", ""),
    "particles of another event": (cell("events", 1, "start", 0), "document", "start"),
    "NaN momentum": (cell("particles", 4, "pz", float("nan")), "finite", "NaN or infinity"),
    "infinite weight": (cell("events", 3, "NOMINAL", float("inf")), "finite", "NaN or infinity"),
    "fraction of a status": (cell("particles", 5, "status", 1.5), "whole", "a fraction"),
    "momentum": (cell("particles", 4, "pz", shifted(1e-3)), "momentum", "as much as comes in"),
    "mass": (cell("particles", 4, "m", 5.0), "mass", "line 5: mass = 5.0"),
    "charge": (cell("particles", 5, "id", -1), "charge", "charge: as much as comes in"),
    "colour": (cell("particles", 5, "color2", 503), "colour_lines", "begin and end once"),
    "status": (cell("particles", 5, "status", 5), "status", "status = 5"),
    "mother": (cell("particles", 5, "mother2", 9), "mothers", "mothers = [1, 9]"),
    "process": (cell("events", 0, "pid", 7), "process_number", "IDPRUP = 7"),
    "weight": (cell("events", 0, "NOMINAL", negated), "cross_section", "mean of XWGTUP"),
    "cross section": (cell("procInfo", 0, "xSection", 1.0), "cross_section", "mean of XWGTUP"),
    "cross section 0": (cell("procInfo", 0, "xSection", 0.0), "init", "XSECUP = 0.0"),
    "IDWTUP": (cell("init", 0, "weightingStrategy", 3), "unit_weight", "with IDWTUP = 3"),
    "beam energy": (cell("init", 0, "energyA", 10.0), "beam_energy", "at most the beam's energy"),
}
