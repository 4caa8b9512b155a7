"""Room on the disk for an HDF5 file, and what h5py says where there is none."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OUT_OF_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class Room:
    """Room that is taken on the disk before HDF5 counts on it.

    HDF5 2.0 cannot close a file whose end could not be written: nothing reads it then, and a file
    that has just been made ends the program.
    """

    def __init__(self, path: Path) -> None:
        """Make a new file."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._reserved = 0

    def forget(self) -> None:
        """What was reserved is gone, since the file was truncated."""
        self._reserved = 0

    def reserve(self, n_bytes: int) -> None:
        """Make sure that the file can have this size.

        Raises:
            OSError: it cannot.
        """
        if n_bytes <= self._reserved or not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(self._descriptor, self._reserved, n_bytes - self._reserved)
        except OSError as error:
            # Others say that this disk does not know how to reserve.
            if error.errno in OUT_OF_ROOM:
                raise
        self._reserved = n_bytes

    def trim(self, n_bytes: int) -> None:
        """Give back what lies behind this size."""
        os.ftruncate(self._descriptor, n_bytes)

    def sync(self) -> None:
        """Bring the file to the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close it; twice is once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def hdf5_errors() -> Iterator[None]:
    """What h5py says of a disk that fails, as an OSError with a reason of one line."""
    try:
        yield
    except OSError as error:
        if error.errno:
            raise OSError(error.errno, os.strerror(error.errno)) from error
        raise OSError(errno.EIO, str(error).split("\n")[0]) from error
    except RuntimeError as error:
        raise OSError(errno.EIO, str(error).split("\n")[0]) from error
