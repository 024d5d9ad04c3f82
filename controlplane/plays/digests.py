"""Where a run comes from: digests of playbooks and inventory, the commit, and the versions of the tools."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from controlplane.domain.chain import canonical
from controlplane.domain.model import Asset
from controlplane.plays.catalogue import PlayError


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 over files and folders: of the lines ``<sha256 of the content>  <name>``, in the order of the names.

    The lines are those of ``sha256sum``, so anybody can compute it again. Names are relative to the folder given.
    """
    lines = []
    for number, path in enumerate(paths):
        found = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
        for part in found:
            name = part.name if part == path else part.relative_to(path).as_posix()
            lines.append(f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {number}/{name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


_FOLDERS = (
    "roles",
    "callback_plugins",
    "filter_plugins",
    "library",
    "module_utils",
    "group_vars",
    "host_vars",
    "tasks",
    "templates",
    "files",
    "vars",
)


def playbook_files(folder: Path) -> list[tuple[str, Path]]:
    """What of the folder of playbooks a run takes with it: (name relative to the folder, file), in order."""
    found = [path for path in folder.iterdir() if path.is_file() and path.suffix in {".yml", ".cfg"}]
    for name in _FOLDERS:
        parts = (folder / name).rglob("*") if (folder / name).is_dir() else ()
        found += [p for p in parts if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".pyc"]
    return [(path.relative_to(folder).as_posix(), path) for path in sorted(found)]


def playbook_digest(folder: Path) -> str:
    """The digest that a run of a playbook of this folder would have, without running it."""
    content = {name: path.read_bytes() for name, path in playbook_files(folder)}
    content.setdefault("ansible.cfg", b"")
    ordered = sorted(content, key=lambda name: PurePosixPath(name).parts)  # as paths are ordered, not as texts
    lines = [f"{hashlib.sha256(content[name]).hexdigest()}  0/{name}\n" for name in ordered]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def inventory_digest(files: Sequence[Path], given: Mapping[str, Any] | None = None) -> str:
    """Over the inventory files and the group_vars and host_vars beside them, which Ansible reads too.

    The variables that a run is given count as one more file, their JSON with sorted keys.
    """
    beside = dict.fromkeys(file.parent / name for file in files for name in ("group_vars", "host_vars"))
    found = digest_of([*files, *(folder for folder in beside if folder.is_dir())])
    if not given:
        return found
    spelt = hashlib.sha256(canonical(given)).hexdigest()
    return hashlib.sha256(f"{found}  inventory\n{spelt}  given\n".encode()).hexdigest()


def shipped_digests(variables: Iterable[str], hosts: Iterable[Asset]) -> dict[str, str]:
    """File -> SHA-256 of what the hosts' variables of these names say the play brings along; empty for one not there.

    A name that is not absolute is looked for beside the playbooks, whose digest covers it. Raises ``PlayError`` for a
    template: nobody can say here which file it means.
    """
    names = list(variables)
    told = {str(host.access.get(name) or "") for host in hosts for name in names}
    if unknown := sorted(name for name in told if "{{" in name or "{%" in name):
        raise PlayError(
            f"Tệp được mang tới máy phải ghi rõ đường dẫn trong kho thiết bị, không dùng mẫu: {unknown[0]}",
            f"A file that is brought to hosts is named by its path in the inventory, not by a template: {unknown[0]}",
        )
    return {name: _sha256(Path(name)) for name in sorted(told) if Path(name).is_absolute()}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


RELEASE = "RELEASE"
"""What script/release writes beside an installed tree: lines ``name=value``, the commit among them."""


def commit_of(folder: Path) -> str | None:
    """The commit checked out where the folder lies, read from .git itself, or that of an installed release; or None."""
    for place in (folder, *folder.parents):
        if (place / RELEASE).is_file():
            told = dict(line.partition("=")[::2] for line in (place / RELEASE).read_text(encoding="utf-8").splitlines())
            return told.get("commit")
        git = place / ".git"
        try:
            if git.is_file():  # a worktree: "gitdir: <path>"
                git = (place / git.read_text(encoding="utf-8").split(":", 1)[1].strip()).resolve()
            if git.is_dir():
                return _head(git)
        except (OSError, IndexError):
            return None
    return None


def _head(git: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref: "):
        return head
    reference = head.removeprefix("ref: ")
    common = git / "commondir"
    shared = (git / common.read_text(encoding="utf-8").strip()).resolve() if common.is_file() else git
    for base in (git, shared):
        if (base / reference).is_file():
            return (base / reference).read_text(encoding="utf-8").strip()
    packed = shared / "packed-refs"
    for line in packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else ():
        if line.endswith(f" {reference}"):
            return line.split(" ", 1)[0]
    return None


def versions() -> dict[str, str]:
    """The versions of the tools that carry a play out."""
    return {name: metadata.version(name) for name in ("ansible-core", "ansible-runner")}
