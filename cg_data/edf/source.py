"""Where the bytes of a recording lie: in memory (an upload) or in a file, local or in an object store, read by range.

Files are read and not mapped: a mapped file that is cut by someone else kills the process that touches it (SIGBUS), its pages count as
the worker's memory, and reading a ten-second window was twice as fast by `pread`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pyarrow import fs

from cg_data import storage
from cg_data.errors import EdfError, StorageError

Bytes = npt.NDArray[np.uint8]


class ByteSource(Protocol):
    """A run of `size` bytes of which any part can be read."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def read(self, start: int, stop: int) -> Bytes:
        """Bytes `start` to `stop`, exactly so many.

        Raises:
            EdfError: ``file.changed``, the file became shorter while it was open.
            StorageError: it cannot be read.
        """
        ...


class MemorySource:
    """Bytes that are in memory already."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.size = len(data)
        self._data = np.frombuffer(data, dtype=np.uint8)

    def read(self, start: int, stop: int) -> Bytes:
        return self._data[start:stop]


class FileSource:
    """A file on any file system of pyarrow, read by range (S3 and GCS fetch just the range)."""

    def __init__(self, uri: str) -> None:
        """Open the file at `uri`.

        Raises:
            StorageError: it is not there, is no file, or cannot be read.
        """
        filesystem, path = storage.resolve(uri)
        self.uri = uri
        self.name = path.rsplit("/", 1)[-1]
        try:
            info = filesystem.get_file_info(path)
            if info.type != fs.FileType.File:
                raise StorageError(f"{uri}: {'a folder, not a file' if info.type == fs.FileType.Directory else 'no such file'}.")
            self.size = int(info.size)
            self._file: Any = filesystem.open_input_file(path)
        except OSError as error:
            raise StorageError(f"{uri}: cannot be read ({error}).") from error

    def read(self, start: int, stop: int) -> Bytes:
        if stop <= start:
            return np.empty(0, dtype=np.uint8)
        try:
            data = np.frombuffer(self._file.read_at(stop - start, start), dtype=np.uint8)
        except OSError as error:
            raise StorageError(f"{self.uri}: cannot be read ({error}).") from error
        if len(data) != stop - start:
            raise EdfError("file.changed", f"{self.name}: the file became shorter while it was being read. Read it again when it is whole.")
        return data
