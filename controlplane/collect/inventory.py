"""The inventory and the campaign plan, read from YAML with line numbers; it refuses whatever it cannot vouch for.

The inventory is Ansible's own YAML form and is merged as Ansible merges it (later file, deeper group, host: the later
wins), only stricter: see ``inventory/README.md``. It opens no connection and holds no secret.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from controlplane.collect.ports import vet_legs, vet_ports, vet_switch, vlans_of
from controlplane.collect.yaml_file import NULL, InventoryError, YamlFile, line_of, nearest
from controlplane.domain.chain import canonical, digest
from controlplane.domain.isolation import INTERNET, PROBE
from controlplane.domain.model import DEVICES, SITE, Asset, Value, Words

KINDS = (*DEVICES, "controlplane", PROBE, "service", SITE)
STATES = ("in_use", "spare", "broken", "retired")
TRANSPORTS = ("local", "ssh", "snmp", "service")
ZONES = ("server", "database", "internal", "wireless", "dmz", "perimeter", "management")
LAST_GOOD = "inventory-last-good.json"

_GROUP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_SERVICE = re.compile(r"(?:tcp|udp)/([1-9][0-9]{0,4})")
_SECRET_NAME = re.compile(
    r"(^|_)(pass|passwd|password|passphrase|community|token|secret|api_?key|auth_key|priv_key|private_key)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(r"PRIVATE KEY-----|^\s*\$ANSIBLE_VAULT")
_PLAIN_TEXT = re.compile(r"[!-~]{1,300}")  # printable ASCII without a space: fit for a request line
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")  # DICOM PS3.5 6.2: no backslash, no control character
_HL7_NAME = re.compile(r"[A-Za-z0-9 ._-]{0,60}")  # none of HL7's own separators
_VARS_SUFFIXES = ("", ".yml", ".yaml", ".json")


@dataclass(frozen=True)
class Vlan:
    """One VLAN of the hospital. ``subnet`` is None until the hospital has given one."""

    id: int
    name: str
    zone: str
    title: Words
    purpose: Words
    subnet: str | None
    guests: bool = False  # devices of visitors are expected here: nobody looks for strangers in it


@dataclass(frozen=True)
class Passage:
    """Traffic that is allowed from one VLAN to another; ``services`` are ``protocol/port``."""

    source: str
    target: str
    services: tuple[str, ...]
    why: Words


@dataclass(frozen=True)
class VlanPlan:
    """The VLANs and every passage between them; what is not listed is denied. Empty when there is no file."""

    vlans: tuple[Vlan, ...] = ()
    allow: tuple[Passage, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """Every asset, sorted by name. ``digest`` is the SHA-256 of ``canonical``, the merged content."""

    assets: Mapping[str, Asset]
    groups: Mapping[str, tuple[str, ...]]  # every group but all and ungrouped -> its assets, children included
    digest: str
    vlans: VlanPlan
    files: tuple[Path, ...]
    canonical: bytes = field(repr=False)

    def select(self, names: Sequence[str]) -> tuple[Asset, ...]:
        """The assets that ``names`` stand for (host, group or ``all``), each once, sorted.

        Raises ``InventoryError`` for a name that is neither, with the nearest ones.
        """
        chosen: set[str] = set()
        for name in names:
            if name in self.assets:
                chosen.add(name)
            elif name == "all":
                chosen.update(self.assets)
            elif name in self.groups:
                chosen.update(self.groups[name])
            else:
                near = nearest(name, [*self.assets, *self.groups])
                raise InventoryError(
                    Words(
                        f"Kiểm kê không có máy hay nhóm nào tên “{name}”.{near.vi}",
                        f"The inventory has no host and no group named “{name}”.{near.en}",
                    )
                )
        return tuple(self.assets[name] for name in sorted(chosen))


# ------------------------------------------------------------------------------- Ansible's form, merged


@dataclass(frozen=True)
class _Var:
    """A variable's value with where it was written."""

    value: Value
    file: YamlFile
    line: int | None

    def error(self, vi: str, en: str) -> InventoryError:
        return self.file.error(self.line, vi, en)


_Vars = dict[str, _Var]


@dataclass
class _Group:
    name: str
    vars: _Vars = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    children: dict[str, tuple[YamlFile, yaml.Node]] = field(default_factory=dict)
    defined: bool = False
    priority: int = 1


class _Merged:
    """Several files poured together; nothing is judged but names, secrets and structure."""

    def __init__(self) -> None:
        self.groups = {name: _Group(name, defined=True) for name in ("all", "ungrouped")}
        self.hosts: dict[str, _Vars] = {}
        self.first_line: dict[str, tuple[YamlFile, yaml.Node]] = {}
        self.folders: list[dict[tuple[str, str], _Vars]] = []  # per file: (group_vars | host_vars, name) -> vars

    def add(self, file: YamlFile) -> None:
        if file.root is None or file.root.tag == NULL:
            raise file.error(1, "Tệp trống.", "The file is empty.")
        for name, key, node in file.pairs(file.root, "Tệp kiểm kê", "An inventory file"):
            self._group(file, name, key, node, top=True)

    def _group(self, file: YamlFile, name: str, key: yaml.Node, node: yaml.Node, top: bool) -> None:
        if not _GROUP_NAME.fullmatch(name):
            raise file.error(
                key,
                f"Tên nhóm “{name}” chỉ được có chữ không dấu, số và dấu gạch dưới.",
                f"The group name “{name}” may only hold letters, digits and underscores.",
            )
        group = self.groups.setdefault(name, _Group(name))
        parts = list(file.pairs(node, f"Nhóm “{name}”", f"Group “{name}”"))
        group.defined = group.defined or top or bool(parts)
        for part, part_key, body in parts:
            if part == "hosts":
                for host, host_key, entry in file.pairs(body, f"hosts của “{name}”", f"hosts of “{name}”"):
                    group.hosts.add(host)
                    self._host(file, host, host_key, entry)
            elif part == "vars":
                self._group_vars(group, _variables(file, body, f"vars của “{name}”", f"vars of “{name}”"))
            elif part == "children":
                self._children(file, group, body)
            else:
                near = nearest(part, ("hosts", "children", "vars"))
                raise file.error(
                    part_key,
                    f"Nhóm “{name}” có khóa lạ “{part}”; chỉ được có hosts, children, vars.{near.vi}",
                    f"Group “{name}” has an unknown key “{part}”; it may have hosts, children, vars.{near.en}",
                )

    def _children(self, file: YamlFile, group: _Group, node: yaml.Node) -> None:
        told = f"children của “{group.name}”", f"children of “{group.name}”"
        for child, key, entry in file.pairs(node, *told):
            if child == "all":
                raise file.error(key, "Nhóm all không thể là nhóm con.", "The group all cannot be a child.")
            group.children.setdefault(child, (file, key))
            self._group(file, child, key, entry, top=False)

    def _host(self, file: YamlFile, name: str, key: yaml.Node, node: yaml.Node) -> None:
        if not _HOST_NAME.fullmatch(name):
            raise file.error(
                key,
                f"Tên máy “{name}” không dùng được; mỗi máy viết một dòng, không viết dạng [01:35].",
                f"The host name “{name}” cannot be used; write one line per host, no ranges like [01:35].",
            )
        self.first_line.setdefault(name, (file, key))
        self.hosts.setdefault(name, {}).update(_variables(file, node, f"Máy “{name}”", f"Host “{name}”"))

    def _group_vars(self, group: _Group, found: _Vars) -> None:
        priority = found.pop("ansible_group_priority", None)
        if priority is not None:
            if isinstance(priority.value, bool) or not isinstance(priority.value, int):
                raise priority.error(
                    "ansible_group_priority phải là số nguyên.", "ansible_group_priority must be a whole number."
                )
            group.priority = priority.value
        group.vars.update(found)

    def add_folders(self, inventory_file: Path, base: Path) -> None:
        """group_vars/ and host_vars/ beside an inventory file, as Ansible finds them. Call after every ``add``."""
        found: dict[tuple[str, str], _Vars] = {}
        for folder, known in (("group_vars", self.groups), ("host_vars", self.hosts)):
            for name, path in _vars_files(inventory_file.parent / folder):
                file = YamlFile(path, base)
                if name not in known:
                    near = nearest(name, known)
                    raise file.error(
                        1,
                        f"{folder} dành cho “{name}”, nhưng kiểm kê không có tên này.{near.vi}",
                        f"{folder} for “{name}”, which the inventory does not have.{near.en}",
                    )
                if file.root is not None:
                    shown = f"{folder}/{path.name}"
                    found.setdefault((folder, name), {}).update(_variables(file, file.root, shown, shown))
        self.folders.append(found)

    def ancestors(self) -> dict[str, tuple[str, ...]]:
        """Every group but all -> itself and the groups above it, without all. Refuses gaps and rings."""
        parents: dict[str, list[str]] = {name: [] for name in self.groups}
        for group in self.groups.values():
            for child, (file, node) in group.children.items():
                if not self.groups[child].defined:
                    near = nearest(child, [name for name, other in self.groups.items() if other.defined])
                    raise file.error(
                        node,
                        f"Nhóm con “{child}” của “{group.name}” chưa được định nghĩa ở đâu cả.{near.vi}",
                        f"“{child}”, a child of “{group.name}”, is defined nowhere.{near.en}",
                    )
                parents[child].append(group.name)
        above: dict[str, tuple[str, ...]] = {}
        for name in self.groups:
            self._climb(name, parents, above, ())
        return {name: tuple(sorted(set(up) - {"all"})) for name, up in above.items() if name != "all"}

    def _climb(
        self,
        name: str,
        parents: Mapping[str, list[str]],
        above: dict[str, tuple[str, ...]],
        path: tuple[str, ...],
    ) -> tuple[str, ...]:
        if name in path:
            ring = " > ".join([name, *reversed(path[path.index(name) :])])  # from the group down
            file, node = self.groups[name].children[path[-1]]
            raise file.error(node, f"Các nhóm chứa lẫn nhau: {ring}.", f"Groups contain one another: {ring}.")
        if name not in above:
            up = {name}
            for parent in parents[name]:
                up.update(self._climb(parent, parents, above, (*path, name)))
            above[name] = tuple(up)
        return above[name]

    def depths(self, above: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
        """Longest way down from all, as Ansible counts: deeper groups override."""
        depths: dict[str, int] = {}
        for name in sorted(above, key=lambda group: (len(above[group]), group)):  # every parent comes first
            direct = [up for up in above[name] if up != name and name in self.groups[up].children]
            depths[name] = 1 + max((depths[up] for up in direct), default=0)
        return depths

    def merged_vars(self, host: str, groups: Sequence[str]) -> _Vars:
        """Ansible's order: all, groups from shallow to deep, group_vars/all, group_vars, host, host_vars."""
        merged = dict(self.groups["all"].vars)
        for group in groups:
            merged.update(self.groups[group].vars)
        for layer in (("all",), groups):
            for folder in self.folders:
                for group in layer:
                    merged.update(folder.get(("group_vars", group), {}))
        merged.update(self.hosts.get(host, {}))
        for folder in self.folders:
            merged.update(folder.get(("host_vars", host), {}))
        return merged


def _vars_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of a group_vars or host_vars folder: NAME, NAME.yml, NAME.yaml, NAME.json or files in NAME/."""
    if not folder.is_dir():
        return
    names = {path.name if path.is_dir() else path.stem: path for path in folder.iterdir() if _counts(path)}
    for name in sorted(names):
        for suffix in _VARS_SUFFIXES:  # the first that exists is the only one read
            path = folder / f"{name}{suffix}"
            if path.is_dir():
                yield from ((name, inside) for inside in _inside(path))
            elif path.exists():
                yield name, path
            if path.exists():
                break


def _counts(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name.endswith("~")
    return not hidden and path.suffix in (_VARS_SUFFIXES if path.is_file() else ("",))


def _inside(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if _counts(path):
            yield from _inside(path) if path.is_dir() else (path,)


def _variables(file: YamlFile, node: yaml.Node, vi: str, en: str) -> _Vars:
    found: _Vars = {}
    for name, key, child in file.pairs(node, vi, en):
        var = _Var(file.value(child), file, line_of(key))
        _refuse_secret(var, name, var.value)
        if name.startswith("emr_") and name not in _VETS:
            near = nearest(name, [known for known in _VETS if known.startswith("emr_")])
            raise var.error(f"Không có biến “{name}”.{near.vi}", f"Unknown variable “{name}”.{near.en}")
        found[name] = var
    return found


def _refuse_secret(var: _Var, name: str, value: Value) -> None:
    """Refuse a password, community or key anywhere inside a variable; the complaint never repeats the value."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_secret(var, key, item)
    elif isinstance(value, list):
        for item in value:
            _refuse_secret(var, name, item)
    elif value not in (None, "", True, False) and (
        _SECRET_NAME.search(name) or (isinstance(value, str) and _SECRET_TEXT.search(value))
    ):
        raise var.error(
            f"“{name}” là thông tin bí mật: để trong tệp quyền 0600 ở thư mục secrets, không để trong kiểm kê.",
            f"“{name}” is a secret: it belongs in a 0600 file in the secrets folder, not in the inventory.",
        )


# --------------------------------------------------------------------------------------- vetting a host

_Vet = Callable[[Value], Words | None]


def _vet_kind(value: Value) -> Words | None:
    if value in KINDS:
        return None
    near = nearest(str(value), KINDS)
    names = ", ".join(KINDS)
    return Words(f"phải là một trong: {names}.{near.vi}", f"must be one of: {names}.{near.en}")


def _vet_text(value: Value) -> Words | None:
    if isinstance(value, str) and value.strip():
        return None
    return Words("phải là một dòng chữ.", "must be a text.")


def _vet_transports(value: Value) -> Words | None:
    if isinstance(value, list) and all(t in TRANSPORTS for t in value) and len(set(value)) == len(value):
        return None
    return Words(
        "phải là danh sách gồm local, ssh, snmp hoặc service, mỗi tên một lần.",
        "must be a list of local, ssh, snmp or service, each once.",
    )


def _within(low: int, high: int) -> _Vet:
    def vet(value: Value) -> Words | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return None
        return Words(f"phải là số nguyên từ {low} đến {high}.", f"must be a whole number from {low} to {high}.")

    return vet


def _vet_snmp(value: Value) -> Words | None:
    good = (
        isinstance(value, dict)
        and set(value) <= {"version", "secret_file", "port"}
        and value.get("version") in ("2c", "3")
        and _vet_text(value.get("secret_file")) is None
        and _within(1, 65535)(value.get("port", 161)) is None
    )
    if good:
        return None
    return Words(
        'phải có dạng {version: "2c" hoặc "3", secret_file: TÊN TỆP}, có thể thêm port.',
        'must be {version: "2c" or "3", secret_file: FILE NAME}, and may have a port.',
    )


def _is_service_url(value: Value) -> bool:
    """http or https, a host, at most a port and a path; no account, no query, nothing that breaks a request line."""
    if not isinstance(value, str) or not _PLAIN_TEXT.fullmatch(value):
        return False
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or parts.fragment:
        return False
    return port != 0 and _vet_address(parts.hostname) is None


def _is_path(value: Value) -> bool:
    return isinstance(value, str) and value.startswith("/") and _PLAIN_TEXT.fullmatch(value) is not None


def _is_port(value: Value) -> bool:
    return _within(1, 65535)(value) is None


def _is_file_name(value: Value) -> bool:
    return isinstance(value, str) and bool(value.strip()) and ".." not in value.split("/") and "\0" not in value


def _is_ae_title(value: Value) -> bool:
    return isinstance(value, str) and _AE_TITLE.fullmatch(value) is not None and bool(value.strip())


def _is_hl7_name(value: Value) -> bool:
    return isinstance(value, str) and _HL7_NAME.fullmatch(value) is not None


def _is_flag(value: Value) -> bool:
    return isinstance(value, bool)


_Form = Mapping[str, Callable[[Value], bool]]
_DICOM: _Form = {"port": _is_port, "called_aet": _is_ae_title, "calling_aet": _is_ae_title, "tls": _is_flag}
_HL7: _Form = {"port": _is_port, "tls": _is_flag, "application": _is_hl7_name, "facility": _is_hl7_name}
_SQL: _Form = {"port": _is_port, "engine": lambda value: value == "postgresql"}


def _has_form(form: _Form, needed: frozenset[str]) -> Callable[[Value], bool]:
    def has(value: Value) -> bool:
        return (
            isinstance(value, dict)
            and needed <= set(value) <= set(form)
            and all(form[key](item) for key, item in value.items())
        )

    return has


_PATH_WORDS = Words("phải là một đường dẫn bắt đầu bằng /.", "must be a path that begins with /.")
_PORT_WORDS = Words("phải có dạng {port: SỐ CỔNG}.", "must be {port: NUMBER}.")
_SERVICE_KEYS: Mapping[str, tuple[Callable[[Value], bool], Words]] = {
    "url": (
        _is_service_url,
        Words(
            "phải có dạng https://TÊN MÁY[:CỔNG][/ĐƯỜNG DẪN], không kèm tài khoản, không có ? và #.",
            "must be https://HOST[:PORT][/PATH], without an account, ? or #.",
        ),
    ),
    "health": (_is_path, _PATH_WORDS),
    "viewer": (_is_path, _PATH_WORDS),
    "fhir": (_is_path, _PATH_WORDS),
    "dicomweb": (_is_path, _PATH_WORDS),
    "plain_port": (_is_port, Words("phải là số cổng từ 1 đến 65535.", "must be a port from 1 to 65535.")),
    "ca_file": (
        _is_file_name,
        Words("phải là tên tệp trong thư mục ca.", "must be the name of a file in the folder ca."),
    ),
    "dicom": (
        _has_form(_DICOM, frozenset({"port", "called_aet", "calling_aet"})),
        Words(
            "phải có dạng {port, called_aet, calling_aet}, tên AE tối đa 16 ký tự, có thể thêm tls: true.",
            "must be {port, called_aet, calling_aet} with AE titles of at most 16 characters, and may have tls: true.",
        ),
    ),
    "hl7": (
        _has_form(_HL7, frozenset({"port"})),
        Words(
            "phải có dạng {port}, có thể thêm tls, application, facility.",
            "must be {port}, and may have tls, application, facility.",
        ),
    ),
    "smtp": (_has_form({"port": _is_port}, frozenset({"port"})), _PORT_WORDS),
    "tcp": (_has_form({"port": _is_port}, frozenset({"port"})), _PORT_WORDS),
    "sql": (
        _has_form(_SQL, frozenset({"port", "engine"})),
        Words("phải có dạng {port, engine: postgresql}.", "must be {port, engine: postgresql}."),
    ),
}
_NEEDS_URL = ("health", "viewer", "fhir", "dicomweb", "plain_port")


def _vet_service(value: Value) -> Words | None:
    """What a service is asked: which protocol on which port or path. Never an account."""
    if not isinstance(value, dict) or not value:
        return Words(
            "phải là một ánh xạ có ít nhất một giao thức (url, dicom, hl7, smtp, sql, tcp).",
            "must be a mapping with at least one protocol (url, dicom, hl7, smtp, sql, tcp).",
        )
    for key, item in value.items():
        if key not in _SERVICE_KEYS:
            near = nearest(key, _SERVICE_KEYS)
            return Words(f"không có khóa “{key}”.{near.vi}", f"has no key “{key}”.{near.en}")
        good, words = _SERVICE_KEYS[key]
        if not good(item):
            return Words(f"{key} {words.vi}", f"{key} {words.en}")
    lonely = next((key for key in _NEEDS_URL if key in value and "url" not in value), None)
    if lonely is not None:
        return Words(f"có {lonely} thì phải có url.", f"needs url when it has {lonely}.")
    return None


def _vet_address(value: Value) -> Words | None:
    bad = Words("phải là một địa chỉ IP hoặc một tên máy.", "must be an IP address or a host name, and nothing else.")
    if not isinstance(value, str):
        return bad
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        labels = value.rstrip(".").split(".")
        named = len(value) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
        return None if named and not labels[-1].isdigit() else bad
    return bad if address.is_unspecified or address.is_multicast else None


def _vet_state(value: Value) -> Words | None:
    if value in STATES:
        return None
    names = ", ".join(STATES)
    near = nearest(str(value), STATES)
    return Words(f"phải là một trong: {names}.{near.vi}", f"must be one of: {names}.{near.en}")


def _vet_day(value: Value) -> Words | None:
    try:
        date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        return Words("phải là một ngày viết dạng 2025-08-15.", "must be a day written like 2025-08-15.")
    return None


def _vet_macs(value: Value) -> Words | None:
    found = value if isinstance(value, list) else [value]
    if found and all(isinstance(mac, str) and _MAC.fullmatch(mac.lower()) for mac in found):
        return None
    return Words(
        'phải là địa chỉ MAC viết dạng "00:1a:2b:3c:4d:5e", hoặc danh sách các địa chỉ đó.',
        'must be a MAC address written like "00:1a:2b:3c:4d:5e", or a list of them.',
    )


def _vet_flag(value: Value) -> Words | None:
    return None if isinstance(value, bool) else Words("phải là true hoặc false.", "must be true or false.")


def _vet_approval(value: Value) -> Words | None:
    """Every play on such a host needs the yes of a second role; a play that needs it anyway is not made laxer."""
    return None if value == "second_role" else Words("chỉ nhận second_role.", "may only be second_role.")


def _vet_ip(value: Value) -> Words | None:
    try:
        return None if isinstance(value, str) and ipaddress.ip_address(value) else Words(*_IP)
    except ValueError:
        return Words(*_IP)


_IP = "phải là một địa chỉ IP.", "must be an IP address."

DECLARED: dict[str, _Vet] = {
    "emr_owner": _vet_text,
    "emr_purpose": _vet_text,
    "emr_location": _vet_text,
    "emr_mac": _vet_macs,
    "emr_serial": _vet_text,
    "emr_support_until": _vet_day,
    "emr_in_service_on": _vet_day,
    "emr_state": _vet_state,
    "emr_external": _vet_flag,
    "emr_watched": _vet_flag,
    "emr_vlan": _within(1, 4094),
    "emr_vlan_address": _vet_ip,
    "emr_outside": _vet_flag,
}
"""What the hospital declares of an asset; it stands in the record as text under its name without ``emr_``."""

_VETS: dict[str, _Vet] = {
    **DECLARED,
    "emr_kind": _vet_kind,
    "emr_title_vi": _vet_text,
    "emr_title_en": _vet_text,
    "emr_department": _vet_text,
    "emr_transports": _vet_transports,
    "emr_snmp": _vet_snmp,
    "emr_service": _vet_service,
    "emr_switch": vet_switch,
    "emr_ports": vet_ports,
    "emr_legs": vet_legs,
    "emr_approval": _vet_approval,
    "emr_known_hosts": _vet_text,
    "emr_play_user": _vet_text,
    "emr_play_key_file": _vet_text,
    "ansible_host": _vet_address,
    "ansible_port": _within(1, 65535),
    "ansible_user": _vet_text,
    "ansible_connection": _vet_text,
    "ansible_ssh_private_key_file": _vet_text,
}


def _vet_vars(name: str, found: _Vars, plan: VlanPlan) -> None:
    for key, vet in _VETS.items():
        words = vet(found[key].value) if key in found else None
        if words is not None:
            raise found[key].error(f"{name}: {key} {words.vi}", f"{name}: {key} {words.en}")
    for one, other in (("emr_title_vi", "emr_title_en"), ("emr_title_en", "emr_title_vi")):
        if one in found and other not in found:
            raise found[one].error(f"{name}: thiếu {other}.", f"{name}: {other} is missing.")
    vlan = found.get("emr_vlan")
    if vlan and plan.vlans and vlan.value not in {known.id for known in plan.vlans}:
        raise vlan.error(
            f"{name}: VLAN {vlan.value} không có trong vlans.yaml.",
            f"{name}: VLAN {vlan.value} is not in vlans.yaml.",
        )
    _vet_place(name, found, plan)
    _vet_network(name, found, plan)


def _vet_place(name: str, found: _Vars, plan: VlanPlan) -> None:
    """A probe stands in one VLAN or outside, and an address in a VLAN lies in its subnet."""
    vlan, outside = found.get("emr_vlan"), found.get("emr_outside")
    is_probe = "emr_kind" in found and found["emr_kind"].value == PROBE
    if outside and outside.value and (vlan or not is_probe):
        raise outside.error(
            f"{name}: emr_outside chỉ dành cho máy thử ở ngoài tường lửa, và máy đó không thuộc VLAN nào.",
            f"{name}: emr_outside is for a probe outside the firewall, and that one is in no VLAN.",
        )
    address = found.get("emr_vlan_address")
    subnets = [known.subnet for known in plan.vlans if vlan and known.id == vlan.value and known.subnet is not None]
    if address and subnets and ipaddress.ip_address(address.value) not in ipaddress.ip_network(subnets[0]):
        raise address.error(
            f"{name}: {address.value} không nằm trong dải {subnets[0]} của VLAN {vlan.value if vlan else ''}.",
            f"{name}: {address.value} is not in {subnets[0]}, the subnet of VLAN {vlan.value if vlan else ''}.",
        )


def _vet_network(name: str, found: _Vars, plan: VlanPlan) -> None:
    """Ports and legs lead only to VLANs that are planned, and a switch with ports says what it runs."""
    ports, legs = found.get("emr_ports"), found.get("emr_legs")
    if ports and "emr_switch" not in found:
        raise ports.error(f"{name}: có emr_ports thì phải có emr_switch.", f"{name}: emr_ports needs emr_switch.")
    known = {vlan.id for vlan in plan.vlans}
    for var in filter(None, (ports, legs)):
        own = (var.value, None) if var is ports else (None, var.value)
        for place, number in vlans_of(*own):
            if number not in known:
                raise var.error(
                    f"{name}: {place} thuộc VLAN {number}, không có trong vlans.yaml.",
                    f"{name}: {place} belongs to VLAN {number}, which is not in vlans.yaml.",
                )


def _refuse_double_addresses(hosts: Mapping[str, _Vars]) -> None:
    """No two devices on one address and port. A service may stand on the address of the server that runs it."""
    seen: dict[tuple[str, int | None], tuple[str, _Var]] = {}
    for name, found in hosts.items():
        var = found.get("ansible_host")
        if var is None or ("emr_kind" in found and found["emr_kind"].value == "service"):
            continue
        try:
            address = str(ipaddress.ip_address(var.value))
        except ValueError:
            address = var.value.rstrip(".").lower()
        port = found["ansible_port"].value if "ansible_port" in found else None
        first = seen.setdefault((address, port), (name, var))
        if first[0] != name:
            place = f"{first[1].file.shown}:{first[1].line}"
            raise var.error(
                f"{name} và {first[0]} cùng một địa chỉ {var.value} (địa chỉ của {first[0]} ở {place}).",
                f"{name} and {first[0]} share the address {var.value} (that of {first[0]} is at {place}).",
            )


# --------------------------------------------------------------------------------------------- VLANs


def _vlan_plan(file: YamlFile) -> VlanPlan:
    raw = file.take(file.root, {"vlans": file.each(lambda n: (n, _vlan(file, n))), "matrix": lambda node: node})
    ids: set[int] = set()
    names: set[str] = {INTERNET}
    nets: list[tuple[Any, str]] = []
    for node, vlan in raw["vlans"]:
        if vlan.id in ids or vlan.name in names:
            raise file.error(
                node,
                f"VLAN {vlan.id} ({vlan.name}) trùng số hoặc trùng tên.",
                f"VLAN {vlan.id} ({vlan.name}) repeats an id or a name.",
            )
        ids.add(vlan.id)
        names.add(vlan.name)
        if vlan.subnet is not None:
            net = ipaddress.ip_network(vlan.subnet)
            for other, owner in nets:
                if net.version == other.version and net.overlaps(other):
                    raise file.error(
                        node,
                        f"Dải địa chỉ của {vlan.name} chồng lên dải của {owner}.",
                        f"The subnet of {vlan.name} overlaps that of {owner}.",
                    )
            nets.append((net, vlan.name))
    matrix = file.take(
        raw["matrix"],
        {"default": file.one_of(("deny",)), "allow": file.each(lambda n: _passage(file, n, sorted(names)))},
    )
    return VlanPlan(tuple(vlan for _, vlan in raw["vlans"]), matrix["allow"])


def _vlan(file: YamlFile, node: yaml.Node) -> Vlan:
    raw = file.take(
        node,
        {
            "id": file.integer,
            "name": file.text,
            "zone": file.one_of(ZONES),
            "title": file.words,
            "purpose": file.words,
            "subnet": file.maybe_text,
            "guests": file.flag,
        },
        {"guests": False},
    )
    if _within(1, 4094)(raw["id"]) is not None:
        raise file.error(node, "Số VLAN phải từ 1 đến 4094.", "A VLAN id is from 1 to 4094.")
    try:
        if raw["subnet"] is not None:
            ipaddress.ip_network(raw["subnet"])
    except ValueError:
        raise file.error(
            node,
            f"Dải địa chỉ của {raw['name']} phải viết dạng 10.0.10.0/24, hoặc null khi chưa cấp.",
            f"The subnet of {raw['name']} is written like 10.0.10.0/24, or null when none was given.",
        ) from None
    return Vlan(**raw)


def _passage(file: YamlFile, node: yaml.Node, names: Sequence[str]) -> Passage:
    raw = file.take(
        node,
        {
            "from": file.one_of(names),
            "to": file.one_of(names),
            "services": file.each(file.text),
            "why": file.words,
        },
    )
    for service in raw["services"]:
        written = _SERVICE.fullmatch(service)
        if written is None or int(written[1]) > 65535:
            raise file.error(
                node,
                f"Dịch vụ “{service}” phải viết dạng tcp/443.",
                f"The service “{service}” is written like tcp/443.",
            )
    return Passage(raw["from"], raw["to"], raw["services"], raw["why"])


# --------------------------------------------------------------------------------------- the whole of it


def load_inventory(paths: Sequence[Path], base: Path) -> Inventory:
    """Read Ansible YAML files in order (the later wins) and ``vlans.yaml`` beside the first of them.

    Relative paths are taken from ``base``; complaints show files relative to it. A group ``site`` without hosts
    becomes the asset ``site``. Raises ``InventoryError`` for anything that cannot be vouched for.
    """
    if not paths:
        raise InventoryError(Words("Chưa chỉ ra tệp kiểm kê nào.", "No inventory file was named."))
    paths = [path if path.is_absolute() else base / path for path in paths]
    plan_path = paths[0].parent / "vlans.yaml"
    plan = _vlan_plan(YamlFile(plan_path, base)) if plan_path.exists() else VlanPlan()
    merged = _Merged()
    for path in paths:
        merged.add(YamlFile(path, base))
    for path in paths:
        merged.add_folders(path, base)
    content = {"hosts": _host_entries(merged, plan), "groups": sorted(_own_groups(merged)), "vlans": _told(plan)}
    files = (*paths, plan_path) if plan_path.exists() else tuple(paths)
    return _assemble(content, files)


def _own_groups(merged: _Merged) -> set[str]:
    return set(merged.groups) - {"all", "ungrouped"}


def _host_entries(merged: _Merged, plan: VlanPlan) -> dict[str, Value]:
    """host -> its groups (transitively) and merged variables, vetted."""
    above = merged.ancestors()
    depths = merged.depths(above)
    members: dict[str, set[str]] = {name: set() for name in merged.hosts}
    for group in merged.groups.values():
        for host in group.hosts:
            members[host].update(above.get(group.name, ()))
    for groups in members.values():
        if groups != {"ungrouped"}:
            groups.discard("ungrouped")
    if SITE in merged.groups and not any(SITE in groups for groups in members.values()):
        members.setdefault(SITE, set(above[SITE]))
    found: dict[str, _Vars] = {}
    for host in sorted(members):
        order = sorted(members[host] or {"ungrouped"}, key=lambda g: (depths[g], merged.groups[g].priority, g))
        found[host] = merged.merged_vars(host, order)
        _vet_vars(host, found[host], plan)
        _vet_kind_given(host, found[host], merged)
    _refuse_double_addresses(found)
    return {
        host: {
            "groups": sorted(members[host] - {"ungrouped"}),
            "vars": {key: var.value for key, var in found[host].items()},
        }
        for host in sorted(found)
    }


def _vet_kind_given(host: str, found: _Vars, merged: _Merged) -> None:
    """Every host says what it is; the group ``site`` is the hospital itself, so it is no device and has no address."""
    if host in merged.first_line:
        if "emr_kind" not in found:
            file, node = merged.first_line[host]
            near = nearest(host, [name for name, own in merged.hosts.items() if name != host and own])
            raise file.error(
                node,
                f"“{host}” chưa có emr_kind (loại thiết bị); có thể tên máy gõ nhầm.{near.vi}",
                f"“{host}” has no emr_kind; the name may be misspelt.{near.en}",
            )
        return
    if "ansible_host" in found:
        raise found["ansible_host"].error(
            "Nhóm site là chính bệnh viện, không có địa chỉ.", "The group site is the hospital itself: no address."
        )
    if "emr_kind" in found and found["emr_kind"].value != SITE:
        raise found["emr_kind"].error("Nhóm site phải có emr_kind: site.", "The group site needs emr_kind: site.")


def _told(plan: VlanPlan) -> Value:
    def words(text: Words) -> Value:
        return {"vi": text.vi, "en": text.en}

    return {
        "vlans": [{**vars(vlan), "title": words(vlan.title), "purpose": words(vlan.purpose)} for vlan in plan.vlans],
        "allow": [
            {**vars(passage), "services": list(passage.services), "why": words(passage.why)} for passage in plan.allow
        ],
    }


def intended_network(plan: VlanPlan) -> dict[str, Any]:
    """The VLAN file as plain values in the file's own form, for the plays: only what was vetted."""
    told = _told(plan)
    allow = [{"from": row.pop("source"), "to": row.pop("target"), **row} for row in told["allow"]]
    return {"vlans": told["vlans"], "matrix": {"default": "deny", "allow": allow}}


def _assemble(content: Value, files: tuple[Path, ...]) -> Inventory:
    """The same content always gives the same inventory, whether it was just read or kept from before."""
    assets = {name: _asset(name, entry["groups"], entry["vars"]) for name, entry in content["hosts"].items()}
    groups = {
        group: tuple(name for name, asset in assets.items() if group in asset.roles) for group in content["groups"]
    }
    plan = VlanPlan(
        tuple(
            Vlan(**{**raw, "title": Words(**raw["title"]), "purpose": Words(**raw["purpose"])})
            for raw in content["vlans"]["vlans"]
        ),
        tuple(
            Passage(**{**raw, "services": tuple(raw["services"]), "why": Words(**raw["why"])})
            for raw in content["vlans"]["allow"]
        ),
    )
    spelt = canonical(content)
    return Inventory(assets, groups, digest(spelt), plan, files, spelt)


def _asset(name: str, groups: Sequence[str], access: Mapping[str, Value]) -> Asset:
    return Asset(
        name=name,
        kind=access.get("emr_kind", SITE),
        roles=tuple(groups),
        title=Words(access.get("emr_title_vi", name), access.get("emr_title_en", name)),
        department=access.get("emr_department", ""),
        transports=tuple(access.get("emr_transports", ())),
        address=access.get("ansible_host"),
        access=dict(access),
        fields={key.removeprefix("emr_"): _told_field(access[key]) for key in DECLARED if key in access},
    )


def _told_field(value: Value) -> str:
    """A declared field as text: lists with spaces between, MAC addresses in lower case, flags as true or false."""
    if isinstance(value, list):
        return " ".join(sorted(_told_field(item) for item in value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.lower() if _MAC.fullmatch(str(value).lower()) else str(value)


class InventoryKeeper:
    """Loads the inventory and keeps a copy of the last good one, which stays in force while a newer one is broken."""

    def __init__(self, paths: Sequence[Path], keep_dir: Path, base: Path | None = None) -> None:
        """``base`` is where relative paths start; without it the working folder."""
        self._paths = tuple(paths)
        self._base = base if base is not None else Path.cwd()
        self._copy = keep_dir / LAST_GOOD

    def current(self) -> tuple[Inventory, InventoryError | None]:
        """The inventory in force, and why it is not what the files say now, if so.

        Raises ``InventoryError`` when the files are broken and no good copy was ever kept.
        """
        try:
            inventory = load_inventory(self._paths, self._base)
        except InventoryError as broken:
            kept = self._kept()
            if kept is None:
                raise
            return kept, broken
        try:
            self._keep(inventory)
        except OSError as denied:
            reason = denied.strerror or "I/O error"
            words = Words(
                f"Kiểm kê đọc được nhưng không lưu được bản dự phòng ({reason}).",
                f"The inventory is good, but no copy of it could be kept ({reason}).",
            )
            return inventory, InventoryError(words, str(self._copy))
        return inventory, None

    def _kept(self) -> Inventory | None:
        """The copy, if it is whole: its digest must match its content."""
        try:
            told = json.loads(self._copy.read_bytes())
            kept = _assemble(told["content"], tuple(Path(path) for path in told["files"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return kept if kept.digest == told["digest"] else None

    def _keep(self, inventory: Inventory) -> None:
        told = {
            "digest": inventory.digest,
            "files": [str(path) for path in inventory.files],
            "content": json.loads(inventory.canonical),
        }
        text = canonical(told)
        if self._copy.is_file() and self._copy.read_bytes() == text:
            return
        self._copy.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(prefix=f".{LAST_GOOD}.", dir=self._copy.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(fresh).replace(self._copy)
        except OSError:
            Path(fresh).unlink(missing_ok=True)
            raise
