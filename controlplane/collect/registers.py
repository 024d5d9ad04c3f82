"""The hospital's own lists (inventory/registers/*.yaml), read strictly into plain values.

A register that cannot be vouched for is an ``InventoryError`` in its place: what rests on it is not answered anew, and
the other registers go on. It judges nothing and holds no secret and no person's name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from controlplane.collect.inventory import KINDS
from controlplane.collect.yaml_file import NULL, InventoryError, YamlFile, nearest
from controlplane.domain.chain import plain
from controlplane.domain.model import Value

Form = Mapping[str, Callable[[yaml.Node], Any]]
Registers = Mapping[str, Value | InventoryError]

ACCOUNT_TYPES = ("admin", "operator", "technical", "service")
DATA_CLASSES = ("sensitive", "ordinary")
BACKUP_CLASSES = ("database", "files")
PRIORITIES = ("required", "important", "standard")
ASSET_CLASSES = tuple(kind for kind in KINDS if kind not in ("site", "controlplane", "service", "probe"))

_PORT = re.compile(r"(?:tcp|udp)/([1-9][0-9]{0,4})", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}")
_ACCOUNTS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\*-]{0,63}")
_VERSION = re.compile(r"any|(?:>=|=) [A-Za-z0-9.+:~-]{1,64}")
_PATTERN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9.+:*?_/-]{0,80}")

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LOCATION = re.compile(r"sftp://[a-z_][a-z0-9_-]*@[^/@]+/.+|(?!.*//[^/]*@).+")  # an account's name is no log-in
_PATH = re.compile(r"/.+")
_SOURCE = re.compile(r"(?:postgresql|mariadb):[^-/][^/]*|path:/.+|command:/usr/local/sbin/[A-Za-z0-9][A-Za-z0-9._-]*")


class _Reader:
    """The forms of one file; ``known`` are the hosts and groups that a scope may name."""

    def __init__(self, file: YamlFile, known: Collection[str]) -> None:
        self.file, self.known = file, known

    def scope(self, node: yaml.Node) -> tuple[str, ...]:
        """Hosts and groups of the inventory."""
        return self.file.each(self._scope_name)(node)

    def _scope_name(self, node: yaml.Node) -> str:
        name = self.file.text(node)
        if name not in self.known:
            near = nearest(name, self.known)
            raise self.file.error(
                node,
                f"Kiểm kê không có máy hay nhóm nào tên “{name}”.{near.vi}",
                f"The inventory has no host and no group named “{name}”.{near.en}",
            )
        return name

    def shaped(self, pattern: re.Pattern[str], vi: str, en: str) -> Callable[[yaml.Node], str]:
        """A text of one form."""

        def read(node: yaml.Node) -> str:
            text = self.file.text(node)
            if not pattern.fullmatch(text):
                raise self.file.error(node, f"“{text}” {vi}", f"“{text}” {en}")
            return text

        return read

    def port(self, node: yaml.Node) -> str:
        """tcp/443."""
        text = self.file.text(node)
        written = _PORT.fullmatch(text)
        if written is None or int(written[1]) > 65535:
            raise self.file.error(node, f"Cổng “{text}” phải viết dạng tcp/443.", f"The port “{text}” is like tcp/443.")
        return text

    def address(self, node: yaml.Node) -> str:
        """An IP address."""
        text = self.file.text(node)
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            raise self.file.error(
                node, f"“{text}” không phải là địa chỉ IP.", f"“{text}” is not an IP address."
            ) from None

    def rows(self, form: Form, optional: Mapping[str, Any] | None = None) -> Callable[[yaml.Node], Any]:
        """A list of mappings of one form."""
        return self.file.each(lambda node: self.file.take(node, form, optional))

    def maybe_span(self, node: yaml.Node) -> int | None:
        """A span of at least one unit, or null while it is not decided."""
        if node.tag == NULL:
            return None
        span = self.file.integer(node)
        if span < 1:
            raise self.file.error(node, "Ở đây phải là số từ 1 trở lên.", "A figure of at least 1 is needed here.")
        return span

    @property
    def account(self) -> Callable[[yaml.Node], str]:
        """The name of one account."""
        return self.shaped(_ACCOUNT, "không phải là tên tài khoản.", "is not the name of an account.")

    @property
    def accounts(self) -> Callable[[yaml.Node], str]:
        """The name of an account, or a pattern with * for several."""
        return self.shaped(_ACCOUNTS, "không phải là tên tài khoản.", "is not the name of an account.")

    @property
    def pattern(self) -> Callable[[yaml.Node], str]:
        """The name of a package or a path; * and ? stand for anything."""
        return self.shaped(_PATTERN, "không phải là tên phần mềm.", "is not the name of software.")


def _software(r: _Reader) -> Form:
    f = r.file
    version = r.shaped(_VERSION, "phải là any, >= PHIÊN BẢN hoặc = PHIÊN BẢN.", "must be any, >= VERSION or = VERSION.")
    row: Form = {
        "name": r.pattern,
        "component": f.text,
        "purpose": f.words,
        "scope": r.scope,
        "owner": f.text,
        "licence": f.maybe_text,
        "version": version,
        "support_until": f.maybe_day,
    }
    exception: Form = {"name": r.pattern, "scope": r.scope, "reason": f.text, "remove_by": f.day}
    base: Form = {"priorities": f.each(f.one_of(PRIORITIES)), "dependencies": f.flag}
    return {
        "reviewed_on": f.maybe_day,
        "base": lambda node: f.take(node, base),
        "software": r.rows(row),
        "runtimes": f.each(r.pattern),
        "browsers": f.each(r.pattern),
        "mail_clients": f.each(r.pattern),
        "exceptions": r.rows(exception),
    }


def _accounts(r: _Reader) -> Form:
    f = r.file
    row: Form = {
        "account": r.account,
        "type": f.one_of(ACCOUNT_TYPES),
        "owner": f.text,
        "department": f.text,
        "enabled_on": f.maybe_day,
        "disabled_on": f.maybe_day,
        "scope": r.scope,
        "shared": f.maybe_text,
    }
    return {
        "reviewed_on": f.maybe_day,
        "system": r.rows({"account": r.accounts, "purpose": f.words}),
        "accounts": r.rows(row, {"disabled_on": None, "shared": None}),
        "without": r.rows({"scope": r.scope, "reason": f.text}),
    }


def _ports(r: _Reader) -> Form:
    return {"ports": r.rows({"role": r._scope_name, "port": r.port, "why": r.file.words})}


def _remote_tools(r: _Reader) -> Form:
    f = r.file
    row: Form = {"name": r.pattern, "scope": r.scope, "owner": f.text, "why": f.words}
    return {"reviewed_on": f.maybe_day, "tools": r.rows(row)}


def _resolvers(r: _Reader) -> Form:
    row: Form = {"address": r.address, "provider": r.file.text, "filters": r.file.text}
    return {"resolvers": r.rows(row)}


def _leavers(r: _Reader) -> Form:
    return {"reviewed_on": r.file.maybe_day, "leavers": r.rows({"account": r.account, "left_on": r.file.day})}


def _databases(r: _Reader) -> Form:
    f = r.file
    row: Form = {
        "host": r._scope_name,
        "port": r.port,
        "application": f.text,
        "class": f.one_of(DATA_CLASSES),
        "owner": f.text,
    }
    return {"reviewed_on": f.maybe_day, "databases": r.rows(row)}


def _assets(r: _Reader) -> Form:
    f = r.file
    row: Form = {"class": f.one_of(ASSET_CLASSES), "reason": f.text, "confirmed_on": f.day}
    return {"absent": r.rows(row)}


def _backups(r: _Reader) -> Form:
    f = r.file
    name = r.shaped(
        _NAME, "phải là chữ thường, số và dấu gạch nối.", "must be lower-case letters, figures and hyphens."
    )
    location = r.shaped(_LOCATION, "có tài khoản trong địa chỉ.", "holds a log-in; keep it in a file of secrets.")
    path = r.shaped(_PATH, "phải là đường dẫn đầy đủ.", "must be a full path.")
    source = r.shaped(
        _SOURCE,
        "phải là postgresql:TÊN, mariadb:TÊN, path:/THƯ_MỤC hoặc command:/usr/local/sbin/TÊN.",
        "must be postgresql:NAME, mariadb:NAME, path:/FOLDER or command:/usr/local/sbin/NAME.",
    )
    repository: Form = {
        "name": name,
        "location": lambda node: None if f.maybe_text(node) is None else location(node),
        "medium": name,
        "offsite": f.flag,
        "offline": f.flag,
        "same_host": f.flag,
        "escrowed_on": f.maybe_day,
        "keeper": f.maybe_text,
    }
    not_sealed = {"escrowed_on": None, "keeper": None}
    dataset: Form = {
        "name": name,
        "host": r._scope_name,
        "purpose": f.words,
        "class": f.one_of(BACKUP_CLASSES),
        "source": lambda node: None if f.maybe_text(node) is None else source(node),
        "paths": f.each(path),
        "excludes": f.each(f.text),
        "every_hours": r.maybe_span,
        "rpo_minutes": r.maybe_span,
        "repositories": f.each(name),
    }
    return {"reviewed_on": f.maybe_day, "repositories": r.rows(repository, not_sealed), "datasets": r.rows(dataset)}


FORMS: Mapping[str, Callable[[_Reader], Form]] = {
    "software": _software,
    "accounts": _accounts,
    "ports": _ports,
    "remote_tools": _remote_tools,
    "resolvers": _resolvers,
    "leavers": _leavers,
    "assets": _assets,
    "databases": _databases,
    "backups": _backups,
}
"""Every register and its form; a fact asks for it as ``register:NAME``."""


def load_registers(folder: Path, base: Path, known: Collection[str]) -> Registers:
    """Every register of ``FORMS`` as a plain value, or the ``InventoryError`` that says where it is broken.

    ``known`` are the hosts and groups of the inventory. A file of another name in the folder is an error, too: its
    entry stands under that name.
    """
    found: dict[str, Value | InventoryError] = {}
    strange = sorted(path.stem for path in folder.glob("*.yaml") if path.stem not in FORMS)
    for name in (*FORMS, *strange):
        try:
            found[name] = _read(name, folder / f"{name}.yaml", base, known)
        except InventoryError as broken:
            found[name] = broken
    return found


def _read(name: str, path: Path, base: Path, known: Collection[str]) -> Value:
    file = YamlFile(path, base)
    if name not in FORMS:
        near = nearest(name, FORMS)
        raise file.error(1, f"Không có sổ “{name}”.{near.vi}", f"There is no register “{name}”.{near.en}")
    return plain(file.take(file.root, FORMS[name](_Reader(file, known))))
