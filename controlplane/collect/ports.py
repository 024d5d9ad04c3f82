"""What a network device shall be, as the inventory says it: the ports of a switch, the legs of a router.

Pure vetting: a value in, a sentence out when it does not hold together. It knows no file and no device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from controlplane.domain.model import Value, Words

SYSTEMS = ("openvswitch", "linux_bridge", "routeros", "ios")
"""What a switch runs, so that its ports can be written in its own words."""

LINUX_SYSTEMS = ("openvswitch", "linux_bridge")

# A port's name goes into commands of switches: letters, figures and the marks that their names have.
_PORT = re.compile(r"[A-Za-z][A-Za-z0-9._/-]{0,39}")
_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,14}")  # Linux takes 15 characters
_FIRST, _LAST = 1, 4094
_PORT_KEYS = ({"access"}, {"trunk"}, {"trunk", "native"})


def vet_switch(value: Value) -> Words | None:
    """Why ``emr_switch`` does not hold together; None when it does."""
    good = (
        isinstance(value, dict)
        and {"system"} <= set(value) <= {"system", "bridge"}
        and value["system"] in SYSTEMS
        and ("bridge" in value) != (value["system"] == "ios")
        and ("bridge" not in value or _is(_INTERFACE, value["bridge"]))
    )
    if good:
        return None
    names = ", ".join(SYSTEMS)
    return Words(
        f"phải có dạng {{system: HỆ, bridge: TÊN CẦU}}; hệ là một trong: {names}; ios thì không ghi bridge.",
        f"must be {{system: SYSTEM, bridge: NAME}}; the system is one of: {names}; ios has no bridge.",
    )


def vet_ports(value: Value) -> Words | None:
    """Why ``emr_ports`` does not hold together; None when it does. Port -> access, or trunk with perhaps native."""
    if not isinstance(value, dict) or not value:
        return Words(
            "phải là ánh xạ từ tên cổng sang {access: SỐ} hoặc {trunk: [SỐ, SỐ], native: SỐ}.",
            "must map the name of a port to {access: ID} or {trunk: [ID, ID], native: ID}.",
        )
    seen: dict[str, str] = {}
    for name, port in value.items():
        if not _is(_PORT, name):
            return Words(f"có tên cổng “{name}” không dùng được.", f"has a port name that cannot be used: “{name}”.")
        first = seen.setdefault(name.lower(), name)
        if first != name:
            return Words(f"nêu cổng “{name}” hai lần ({first}).", f"names the port “{name}” twice ({first}).")
        if words := _vet_port(name, port):
            return words
    return None


def _vet_port(name: str, port: Value) -> Words | None:
    if not isinstance(port, dict) or set(port) not in _PORT_KEYS:
        return Words(
            f"có cổng {name} không rõ VLAN: ghi {{access: SỐ}} hoặc {{trunk: [SỐ, SỐ], native: SỐ}}.",
            f"has the port {name} without a clear VLAN: write {{access: ID}} or {{trunk: [ID, ID], native: ID}}.",
        )
    if "access" in port:
        if port["access"] is None:
            return Words(f"có cổng truy nhập {name} chưa ghi VLAN.", f"has the access port {name} without a VLAN.")
        return _vet_number(name, port["access"])
    trunk = port["trunk"]
    if not isinstance(trunk, list) or not trunk:
        return Words(
            f"có cổng trung kế {name} không mang VLAN nào.", f"has the trunk port {name} that carries no VLAN."
        )
    for number in [*trunk, *([port["native"]] if "native" in port else [])]:
        if words := _vet_number(name, number):
            return words
    if len(set(trunk)) != len(trunk):
        return Words(f"nêu một VLAN hai lần ở cổng {name}.", f"names a VLAN twice on the port {name}.")
    if "native" in port and port["native"] in trunk:
        return Words(
            f"có cổng {name} vừa gắn thẻ vừa không gắn thẻ VLAN {port['native']}.",
            f"has the port {name} carry VLAN {port['native']} both with and without a tag.",
        )
    return None


def _vet_number(name: str, number: Value) -> Words | None:
    if isinstance(number, int) and not isinstance(number, bool) and _FIRST <= number <= _LAST:
        return None
    return Words(
        f"có số VLAN ở {name} không phải là số nguyên từ {_FIRST} đến {_LAST}.",
        f"has a VLAN id at {name} that is no whole number from {_FIRST} to {_LAST}.",
    )


def vet_legs(value: Value) -> Words | None:
    """Why ``emr_legs`` does not hold together; None when it does. Interface -> VLAN id, or the word internet."""
    if not isinstance(value, dict) or not value:
        return Words(
            "phải là ánh xạ từ tên giao diện sang số VLAN, hoặc sang chữ internet.",
            "must map the name of an interface to the id of its VLAN, or to the word internet.",
        )
    owners: dict[int, str] = {}
    for name, vlan in value.items():
        if not _is(_INTERFACE, name):
            return Words(
                f"có tên giao diện “{name}” không dùng được.", f"has an interface name that cannot be used: “{name}”."
            )
        if vlan == "internet":
            continue
        if words := _vet_number(name, vlan):
            return words
        first = owners.setdefault(vlan, name)
        if first != name:
            return Words(
                f"cho VLAN {vlan} hai giao diện, {first} và {name}.",
                f"gives VLAN {vlan} two interfaces, {first} and {name}.",
            )
    return None


def vlans_of(ports: Value, legs: Value) -> Iterator[tuple[str, int]]:
    """(port or interface, VLAN id) of everything that ports and legs name; both were vetted before, or are None."""
    for name, port in (ports or {}).items():
        for number in (
            [port["access"]] if "access" in port else [*port["trunk"], *([port["native"]] if "native" in port else [])]
        ):
            yield name, number
    for name, vlan in (legs or {}).items():
        if vlan != "internet":
            yield name, vlan


def _is(pattern: re.Pattern[str], value: Value) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
