"""Bytes under their own SHA-256, packed by zstd, written once. It hands out no unverified byte."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import zstandard

from controlplane.domain.chain import digest as digest_of

LARGEST_BYTES = 256 * 1024 * 1024


class VaultError(RuntimeError):
    """The bytes under a digest are missing or are not what their name says."""


class Vault:
    """A folder of ``ab/cdef...`` files; the plain bytes of a file hash to its name."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is made (0700) when it is not there."""
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Keep bytes and return their digest. They are on the disk, under their name, before this returns."""
        name = digest_of(data)
        path = self._path(name)
        if path.exists():
            return name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(zstandard.ZstdCompressor(level=6).compress(data))
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).rename(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return name

    def get(self, name: str) -> bytes:
        """The bytes under a digest. Raises ``VaultError`` when they are not there or are other bytes."""
        try:
            packed = self._path(name).read_bytes()
            data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=LARGEST_BYTES)
        except FileNotFoundError:
            raise VaultError(f"no bytes under {name}") from None
        except zstandard.ZstdError:
            raise VaultError(f"the file of {name} is damaged") from None
        if digest_of(data) != name:
            raise VaultError(f"the bytes under {name} are other bytes")
        return data

    def __contains__(self, name: str) -> bool:
        """Whether a file of this name is there; ``get`` verifies it."""
        return self._path(name).exists()

    def names(self) -> Iterator[str]:
        """Every digest that has a file, sorted."""
        for path in sorted(self.folder.glob("??/*")):
            if not path.name.startswith("."):
                yield path.parent.name + path.name

    def _path(self, name: str) -> Path:
        if len(name) != 64 or not all(c in "0123456789abcdef" for c in name):
            raise VaultError(f"{name!r} is not a SHA-256")
        return self.folder / name[:2] / name[2:]
