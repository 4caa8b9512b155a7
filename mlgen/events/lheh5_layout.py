"""The layout of LHEH5 event files: an HDF5 file of a few tables (arXiv:1905.05120, 2309.13154).

`init` and `procInfo` hold the numbers of the init block, `events` a row for each event, `particles`
a row for each particle; an event's particles are the `nparticles` rows from `start` on. Columns are
named by attributes. `xml/header` is the `<header>` that a Les Houches file would have, which pylhe
reads as well.
"""

from __future__ import annotations

VERSION = (2, 6, 0)
"""That of pylhe 2.1.0: columns by name, weights in pb."""

MAGIC = b"\x89HDF\r\n\x1a\n"

INIT_COLUMNS = (
    "beamA",
    "beamB",
    "energyA",
    "energyB",
    "PDFgroupA",
    "PDFgroupB",
    "PDFsetA",
    "PDFsetB",
    "weightingStrategy",
    "numProcesses",
)
PROCESS_COLUMNS = ("procId", "npLO", "npNLO", "xSection", "error", "unitWeight")
EVENT_COLUMNS = (
    "pid",
    "nparticles",
    "start",
    "trials",
    "scale",
    "fscale",
    "rscale",
    "aqed",
    "aqcd",
)
"""The weights follow, the nominal one first."""
NOMINAL = "NOMINAL"
PARTICLE_COLUMNS = (
    "id",
    "status",
    "mother1",
    "mother2",
    "color1",
    "color2",
    "px",
    "py",
    "pz",
    "e",
    "m",
    "lifetime",
    "spin",
)

UNIT_WEIGHTS_FLAG = "mlgenUnitWeights"
"""Attribute of `init`: each weight is that of the others, the cross section, and stands for 1."""
LAST_BITS = "mlgenLastBits"
"""Beside that attribute, (n, n_variations) of int8: what to add to the bits of a variation over the
cross section, to have the one that was written."""
HEADER_CHECKSUM = "crc32"
"""Attribute of `xml/header`, whose bytes HDF5 keeps without a checksum."""
CHECKSUM_OF = "crc32:"
"""Before the name of each other table, an attribute of `procInfo`: the CRC-32 of its rows that were
written. HDF5's own, of Fletcher, does not tell 0 from 65535 in two bytes."""

ROWS_PER_CHUNK = 1024
"""Of `events`; twice as many of `particles`. Smaller files have chunks of their own size."""
