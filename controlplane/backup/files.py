"""Files proven: those that a data set means, their list of hashes, and a source held against its archive.

It needs the standard library alone: the play ships this very file beside the backup job of a host, so that job and
control plane judge by one rule. It reads and changes nothing; who fetches files from an archive hands in how.
"""

from __future__ import annotations

import fnmatch
import hashlib
import math
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

READ_BYTES = 64 * 1024
MOST_NAMED = 20
"""How many paths a result names; the rest are counted."""

HIGH_ENTROPY_BITS = 7.9
"""Bits a byte; encrypted bytes have 7.99 or more, text about 4 to 5. Compressed pictures are high, too, hence RISE."""

RISE_BITS = 0.5
"""A file counts as encrypted when its entropy is high and has risen by this against its own archived form."""

LEAST_BYTES = 1024
"""Of fewer bytes the entropy says nothing: 256 different bytes cannot all have come."""

ALARM_SHARE_PERCENT = 30.0
"""So many files changed or vanished since the snapshot, with encrypted ones among those drawn, is an alarm."""

FRESH_SECONDS = 3600
"""A file written so shortly before it was listed was in use, and may be gone before it is saved."""

# ------------------------------------------------------------------------------------------- which files are meant


def files_below(roots: Iterable[str], excludes: Sequence[str] = ()) -> Iterator[str]:
    """Every regular file below the roots that no exclude means; a root that is not there has none."""
    for root in roots:
        found = iter((root,)) if os.path.isfile(root) else _walk(root)  # noqa: PTH113  # a name may be no UTF-8
        for path in found:
            if os.path.isfile(path) and not os.path.islink(path) and not excluded(path, excludes):  # noqa: PTH113, PTH114
                yield path


def _walk(root: str) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield os.path.join(folder, name)  # noqa: PTH118  # a name may hold bytes that are no UTF-8


def excluded(path: str, excludes: Sequence[str]) -> bool:
    """As restic means it: a pattern with a slash from the root, any other for each part of the path."""
    parts = path.split("/")
    return any(
        fnmatch.fnmatch(path, pattern) or path.startswith(pattern.rstrip("/") + "/")
        if pattern.startswith("/")
        else any(fnmatch.fnmatch(part, pattern) for part in parts)
        for pattern in excludes
    )


def hash_of(path: Path) -> str:
    """The SHA-256 of a file. Raises ``OSError``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------------ the list of hashes

_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](/.+)")
_STAMP = re.compile(r"# ([0-9]+) (-?[0-9]+)")
_HEAD = re.compile(r"# listed ([0-9]+)")
_ESCAPES = {"\\n": "\n", "\\r": "\r", "\\\\": "\\"}


class Listed(NamedTuple):
    """A file as it was hashed. Older lists have no size and no time of change (nanoseconds): -1."""

    digest: str
    size: int = -1
    changed_ns: int = -1


class Listing(dict[str, Listed]):
    """Full path -> what was hashed, and when the listing began (seconds; 0 in older lists)."""

    at = 0


def head(at: int) -> str:
    """The first line of a list. `sha256sum -c` passes over lines that begin with #."""
    return f"# listed {at}\n"


def entry(path: str) -> tuple[str, Listed]:
    """The lines of one file, in the form of `sha256sum` after a line with its size and time. Raises ``OSError``."""
    found = os.lstat(path)
    listed = Listed(hash_of(Path(path)), found.st_size, found.st_mtime_ns)
    # A name with a backslash or a line break is written escaped, with a backslash before the hash.
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    sign = "\\" if escaped != path else ""
    return f"# {listed.size} {listed.changed_ns}\n{sign}{listed.digest}  {escaped}\n", listed


def read_listing(text: str) -> Listing:
    """A list of hashes, this form or that of `sha256sum` alone. Raises ``ValueError`` with the number of a bad line."""
    found, stamp = Listing(), (-1, -1)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        if marked := _STAMP.fullmatch(line):
            stamp = int(marked[1]), int(marked[2])
            continue
        if begun := _HEAD.fullmatch(line):
            found.at = int(begun[1])
            continue
        parts = _LINE.fullmatch(line)
        if parts is None or ".." in parts[3].split("/"):
            raise ValueError(number)
        path = re.sub(r"\\[nr\\]", lambda m: _ESCAPES[m[0]], parts[3]) if parts[1] else parts[3]
        found[path] = Listed(parts[2], *stamp)
        stamp = (-1, -1)
    return found


@dataclass(frozen=True)
class Verified:
    """Files against their hashes: how many agree, which do not or are not there, and of which nothing can be said.

    ``changed`` were written between hashing and saving: the snapshot holds another state than the one that was hashed.
    """

    right: int
    wrong: tuple[str, ...]
    missing: tuple[str, ...]
    changed: tuple[str, ...] = ()


def verify(listing: Mapping[str, Listed], root: Path) -> Verified:
    """Hash every listed file below ``root``, where it was restored with its size and time of change."""
    right, changed = 0, list[str]()
    wrong, missing = list[str](), list[str]()
    begun = getattr(listing, "at", 0)
    for path, listed in sorted(listing.items()):
        there = root / path.lstrip("/")
        try:
            found = there.lstat()
            same = hash_of(there) == listed.digest
        except OSError:
            in_use = begun and listed.changed_ns > (begun - FRESH_SECONDS) * 10**9
            (changed if in_use else missing).append(path)
            continue
        if same:
            right += 1
        elif listed.size >= 0 and (found.st_size, found.st_mtime_ns) != listed[1:]:
            changed.append(path)
        else:
            wrong.append(path)
    return Verified(right, tuple(wrong), tuple(missing), tuple(changed))


# ------------------------------------------------------------------------------------- a source against its archive


@dataclass(frozen=True)
class Compared:
    """A source against the newest snapshot of it. Paths are named up to a limit and counted beyond."""

    source_files: int
    archived_files: int
    drawn: int
    same: int
    changed: int  # drawn, and changed at the source since the snapshot
    wrong: tuple[str, ...]  # drawn, unchanged since the snapshot and yet different
    not_archived: tuple[str, ...]  # older than the snapshot, not in it
    not_archived_count: int
    vanished_count: int  # in the snapshot, no longer at the source
    changed_share_percent: float
    encrypted: tuple[str, ...]
    ok: bool
    alarm: bool


Restored = Callable[[Sequence[str]], AbstractContextManager[Path]]
"""Restores these paths of the snapshot into a folder that is gone afterwards."""


def compare_files(
    roots: Sequence[str],
    excludes: Sequence[str],
    archive: Collection[str],
    at: float,
    restored: Restored,
    *,
    count: int,
    seed: int,
) -> Compared:
    """Compare a source with a snapshot of the time ``at`` (seconds), ``count`` files of it by their bytes.

    ``excludes`` are those that the hospital declared: what is left out beyond them is not archived and is told.
    """
    sides = _sides([root.rstrip("/") for root in roots], excludes, archive, at)
    drawn = draw([path for path in sides.archived if path in sides.source], count, seed)
    same, wrong, changed, encrypted = _drawn(drawn, sides.touched, restored)
    encrypted += _high(sorted(sides.touched - sides.archived), count, seed)
    alarm = sides.changed_share_percent >= ALARM_SHARE_PERCENT and bool(encrypted)
    return Compared(
        *(len(sides.source), len(sides.archived), len(drawn), same, changed),
        wrong=tuple(wrong[:MOST_NAMED]),
        not_archived=tuple(sides.not_archived[:MOST_NAMED]),
        not_archived_count=len(sides.not_archived),
        vanished_count=len(sides.vanished),
        changed_share_percent=round(sides.changed_share_percent, 1),
        encrypted=tuple(encrypted[:MOST_NAMED]),
        ok=bool(same or changed) and not wrong and not sides.not_archived and not alarm,
        alarm=alarm,
    )


def entropy(data: bytes) -> float:
    """Shannon's entropy in bits a byte; 0 of nothing."""
    total = len(data)
    return -sum(n / total * math.log2(n / total) for n in Counter(data).values()) if total else 0.0


def draw(paths: Iterable[str], count: int, seed: int) -> list[str]:
    """``count`` paths by a seed: the same seed over the same paths draws the same."""
    ordered = sorted(paths)
    return sorted(random.Random(seed).sample(ordered, min(count, len(ordered))))  # noqa: S311  # to be repeated, not secret


def literal(path: str) -> str:
    """A path as a pattern of restic that means that path alone."""
    return re.sub(r"([*?\[\\])", r"\\\1", path)


@dataclass(frozen=True)
class _Sides:
    """Paths at the source, in the archive, and those touched since the snapshot was taken."""

    source: frozenset[str]
    archived: frozenset[str]
    touched: frozenset[str]

    @property
    def not_archived(self) -> list[str]:
        return sorted(self.source - self.archived - self.touched)

    @property
    def vanished(self) -> frozenset[str]:
        return self.archived - self.source

    @property
    def changed_share_percent(self) -> float:
        changed = len(self.vanished) + len(self.touched & self.archived)
        return 100 * changed / len(self.archived) if self.archived else 0.0


def _sides(inside: Sequence[str], excludes: Sequence[str], archive: Collection[str], at: float) -> _Sides:
    archived = frozenset(
        path for path in archive if any(path == root or path.startswith(f"{root}/") for root in inside)
    )
    source = frozenset(files_below(inside, excludes))
    # The time of change cannot be set back by whoever changes a file, unlike the time of modification.
    touched = frozenset(path for path in source if _touched(path, at))
    return _Sides(source, archived, touched)


def _touched(path: str, at: float) -> bool:
    try:
        return os.lstat(path).st_ctime > at
    except FileNotFoundError:  # gone while we look, so changed
        return True


def _drawn(drawn: Sequence[str], touched: frozenset[str], restored: Restored) -> tuple[int, list[str], int, list[str]]:
    """Of the files drawn: how many are the same, which are wrong, how many changed, which were encrypted."""
    same, changed = 0, 0
    wrong: list[str] = []
    encrypted: list[str] = []
    if not drawn:
        return same, wrong, changed, encrypted
    with restored([literal(path) for path in drawn]) as place:
        for path in drawn:
            then = place / path.lstrip("/")
            if then.is_file() and hash_of(then) == hash_of(Path(path)):
                same += 1
                continue
            if path in touched:
                changed += 1
            else:
                wrong.append(path)
            if then.is_file() and _rose(then, Path(path)):
                encrypted.append(path)
    return same, wrong, changed, encrypted


def _rose(then: Path, now: Path) -> bool:
    after = _head(now)
    high = entropy(after)
    return len(after) >= LEAST_BYTES and high >= _bound(len(after)) and high - entropy(_head(then)) >= RISE_BITS


def _bound(size: int) -> float:
    """What random bytes of this many reach at least: fewer bytes cannot fill the whole scale."""
    return HIGH_ENTROPY_BITS if size >= 8192 else HIGH_ENTROPY_BITS - 0.2


def _high(paths: Sequence[str], count: int, seed: int) -> list[str]:
    """Of the files that came since, those drawn whose bytes look encrypted and that took the place of an old name."""
    return [
        p
        for p in draw(paths, count, seed)
        if len(bytes_of := _head(Path(p))) >= LEAST_BYTES and entropy(bytes_of) >= _bound(len(bytes_of))
    ]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(READ_BYTES)
