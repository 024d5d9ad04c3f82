"""The lists that a backup job leaves beside the data (hashes of files, rows of tables), read with our errors."""

from __future__ import annotations

from controlplane.backup.errors import BackupError
from controlplane.backup.files import Listing, Verified, hash_of, read_listing, verify

__all__ = ["Verified", "hash_of", "read_manifest", "read_rows", "verify"]


def read_manifest(text: str, name: str) -> Listing:
    """Full path -> hash, size and time of change. Raises ``BackupError`` naming the line that cannot be read."""
    try:
        return read_listing(text)
    except ValueError as error:
        raise BackupError("bad_manifest", name=name, line=error.args[0]) from None


def read_rows(text: str, name: str) -> dict[str, int]:
    """Table -> rows, as the job counted them for the dump. Raises ``BackupError``."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        table, _, count = line.partition("\t")
        if not table or not count.isdecimal():
            raise BackupError("bad_manifest", name=name, line=number)
        found[table] = int(count)
    return found
