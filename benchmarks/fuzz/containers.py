"""Damage inside containers: members of zip files, gzip files, tables of HDF5 files; and bombs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import h5py
import numpy as np

from benchmarks.fuzz.mutations import BYTES, JSON, MAX_GROWN, TEXT, Mutation, mutated

# --- gzip ------------------------------------------------------------------------------------


def decompressed(content: bytes) -> bytes:
    """What is compressed, as far as it goes; none of a bomb."""
    text = b""
    while content:
        stream = zlib.decompressobj(31)
        try:
            text += stream.decompress(content, MAX_GROWN)
        except zlib.error:
            break
        if stream.unconsumed_tail:
            return b""
        content = stream.unused_data
    return text


def inside_gzip(mutations: Sequence[Mutation]) -> Mutation:
    """Mutations of what is compressed, in one member or two."""

    def mutate(content: bytes, rng: Random) -> bytes:
        text = mutated(decompressed(content), mutations, rng)
        at = rng.choice([0, rng.randrange(len(text) + 1)])
        return b"".join(gzip.compress(part, 1, mtime=0) for part in (text[:at], text[at:]))

    return mutate


def gzip_bomb(content: bytes, rng: Random) -> bytes:
    """The file, in the midst of which one byte stands again and again."""
    text = decompressed(content)
    at = rng.randrange(len(text) + 1)
    filling = rng.choice([b" ", b"\n", b"1", b"<", b"x", b"0 "])
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = filling * (1 << 20)
    parts = [bomb.compress(text[:at])]
    parts += [bomb.compress(block) for _ in range(rng.choice([1, 1, 8, 80]))]
    parts += [bomb.compress(text[at:]), bomb.flush()]
    return b"".join(parts)


def gzip_again(content: bytes, rng: Random) -> bytes:
    return gzip.compress(content, 1, mtime=0)


# --- zip -------------------------------------------------------------------------------------


def members_of(content: bytes) -> dict[str, bytes] | None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_GROWN:
                return None
            return {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # whatever damage has done to it
        return None


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), member, method)
    return buffer.getvalue()


def signed(members: dict[str, bytes]) -> dict[str, bytes]:
    """The members, with the checksums that they have noted in the JSON among them."""
    index = next((name for name in members if name.endswith(".json")), "")
    with suppress(KeyError, ValueError, TypeError, RecursionError):
        table = json.loads(members[index])
        for name in table["sha256"]:
            table["sha256"][name] = hashlib.sha256(members.get(name, b"")).hexdigest()
        members[index] = json.dumps(table, indent=2).encode()
    return members


def change_member(content: bytes, rng: Random) -> bytes:
    """Damage one member, and make zip's own checksums right; often the noted ones too."""
    members = members_of(content)
    if not members:
        return content
    name = rng.choice(list(members))
    mutations = (*JSON, *JSON, *TEXT, *BYTES) if name.endswith(".json") else (*TENSORS, *BYTES)
    members[name] = mutated(members[name], mutations, rng)
    if rng.random() < 0.7:
        members = signed(members)
    return zipped(members, rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))


def rename_member(content: bytes, rng: Random) -> bytes:
    members = members_of(content)
    if not members:
        return content
    name, other = rng.choice(list(members)), rng.choice([*members, "../../x", "/x", "a" * 60_000])
    members[other] = members.pop(name) if rng.random() < 0.5 else members[name]
    return zipped(members)


def member_twice(content: bytes, rng: Random) -> bytes:
    members = members_of(content)
    if not members:
        return content
    name = rng.choice(list(members))
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo(f"{name[:-1]}~", (1980, 1, 1, 0, 0, 0))
        archive.writestr(info, mutated(members[name], BYTES, rng))
    return buffer.getvalue().replace(info.filename.encode(), name.encode())


def false_size(content: bytes, rng: Random) -> bytes:
    """A member that says that it is large."""
    members = members_of(content)
    if not members:
        return content
    size = rng.choice([2**31 - 1, 2**32 - 2, 2**20]).to_bytes(4, "little")
    before = len(rng.choice(list(members.values()))).to_bytes(4, "little")
    return content.replace(before, size, rng.choice([1, 2, -1]))


def zip_bomb(content: bytes, rng: Random) -> bytes:
    """A member that is large and compresses well."""
    members = members_of(content)
    if not members:
        return content
    name = rng.choice(list(members))
    members[name] += rng.choice([b" ", b"\0", b"["]) * rng.choice([1 << 22, 1 << 26])
    return zipped(members, zipfile.ZIP_DEFLATED)


def change_safetensors(content: bytes, rng: Random) -> bytes:
    """Another header: offsets that overlap, other shapes and types; or another length of it."""
    length = int.from_bytes(content[:8], "little")
    if rng.random() < 0.3:
        new = rng.choice([0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1, len(content)])
        return (new % 2**64).to_bytes(8, "little") + content[8:]
    try:
        table = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError):
        return content
    if not isinstance(table, dict):
        return content
    names = [name for name in table if isinstance(table[name], dict) and "shape" in table[name]]
    if not names:
        return content
    entry = table[rng.choice(names)]
    kind = rng.randrange(5)
    if kind == 0:
        entry["dtype"] = rng.choice(["F64", "F32", "I64", "BOOL", "F16", "BF16", "U8", "F8_E4M3"])
    elif kind == 1:
        entry["shape"] = rng.choice(
            [[], [0], [2**62, 4], [2**32], [1] * 70, [-1], entry["shape"][::-1]]
        )
    elif kind == 2:
        entry["data_offsets"] = rng.choice([[0, 0], [0, 8], [8, 0], [0, 2**63], [-1, 7]])
    elif kind == 3:
        table[rng.choice(["", "__metadata__", "weight", "é"])] = dict(entry)
    else:
        del table[rng.choice(names)]
    header = json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


TENSORS: Sequence[Mutation] = (change_safetensors,) * 6
ZIP: Sequence[Mutation] = (
    *(change_member,) * 100,
    *(rename_member,) * 8,
    *(member_twice,) * 8,
    *(false_size,) * 4,
    zip_bomb,
)


# --- HDF5 ------------------------------------------------------------------------------------

TYPES = ("f8", "f4", "f2", "i8", "u8", "i1", ">f8", "c16", "S8", "?", "V16", "M")
NUMBERS = (0.0, -1.0, 0.5, 501.0, 1e9, 2.0**53, 2.0**63, 1e300, 5e-324, np.nan, np.inf, -np.inf)


def change_hdf5(content: bytes, rng: Random) -> bytes:
    """Change a table or a text of the file, as HDF5 itself would.

    Before any other mutation: on a damaged file HDF5 may never come to an end.
    """
    buffer = io.BytesIO(content)
    # What earlier changes left may be a file that cannot be changed like this.
    with suppress(Exception), np.errstate(all="ignore"), h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
        rng.choice(HDF5_CHANGES)(file, rng.choice(names), rng)
    return buffer.getvalue()


def _number(file: Any, name: str, rng: Random) -> None:
    dataset = file[name]
    place = tuple(rng.randrange(n) for n in dataset.shape)
    dataset[place] = rng.choice(NUMBERS)


def _attribute(file: Any, name: str, rng: Random) -> None:
    attributes = file[name].attrs
    key = rng.choice(list(attributes) or ["mlgenUnitWeights"])
    if rng.random() < 0.3:
        del attributes[key]
    elif rng.random() < 0.5:
        attributes[key] = rng.choice([1, -1, 2**63, "x", [], [1, 2], np.nan, b"\xff", ["a", "a"]])
    else:
        found = attributes[key]
        attributes[key] = found[::-1] if np.ndim(found) else [found, found]


def _without(file: Any, name: str, rng: Random) -> None:
    del file[name]


def _replaced(file: Any, name: str, rng: Random) -> None:
    """Another table under this name: empty, huge, of another type, elsewhere."""
    dataset = file[name]
    found, attributes = dataset[()], dict(dataset.attrs)
    del file[name]
    kind = rng.randrange(8)
    width = dataset.shape[1] if len(dataset.shape) > 1 else 2
    if kind == 0:
        new = file.create_dataset(name, data=np.asarray(found).astype(rng.choice(TYPES)))
    elif kind == 1:
        n = rng.choice([0, 1, 10**6, 10**12, 2**62 // (8 * width)])
        new = file.create_dataset(name, (n, width), "f8", chunks=(1024, width), fillvalue=1.0)
    elif kind == 2:
        n = rng.choice([10**4, 10**7])
        filled = np.full((1, width), 3.0)
        new = file.create_dataset(
            name, (n, width), "f8", chunks=(n, width), compression="gzip", fillvalue=2.0
        )
        new[:1] = filled
    elif kind == 3:
        shape = rng.choice([(), (0, 0), (1, 10**6), (2, 2, 2), (3,)])
        new = file.create_dataset(name, shape, rng.choice(["f8", "i4"]))
    elif kind == 4:
        file[name] = (
            h5py.ExternalLink("/dev/zero", "x") if rng.random() < 0.5 else h5py.SoftLink(name)
        )
        return
    elif kind == 5:
        file.create_group(name)
        return
    elif kind == 6:
        text = rng.choice(["", "<a>", "\0", "x" * 100_000, "<header></header>" * 2])
        new = file.create_dataset(name, data=text)
    else:
        new = file.create_dataset(name, data=np.concatenate([found, found]))
    for key, value in attributes.items():
        new.attrs[key] = value


HDF5_CHANGES = (_number, _number, _number, _attribute, _without, _replaced, _replaced)
HDF5: Sequence[Mutation] = (change_hdf5,) * 12
