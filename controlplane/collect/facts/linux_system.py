"""What a Linux host is: release, kernel, processor, memory, load, hardware. It judges nothing.

Figures that tremble are given in steps (load, memory in use), and times that stand still instead of ages.
"""

from __future__ import annotations

import re
from typing import Any

from controlplane.collect.facts.linux_text import (
    day,
    lines,
    moment,
    number,
    part,
    settings,
    step,
    whole,
    words_of,
)
from controlplane.domain.model import Fact

SUPPORT_ENDS_ON = {
    ("debian", "10"): "2024-06-30",
    ("debian", "11"): "2026-08-31",
    ("debian", "12"): "2028-06-30",
    ("debian", "13"): "2030-06-30",
    ("ubuntu", "18.04"): "2023-05-31",
    ("ubuntu", "20.04"): "2025-05-29",
    ("ubuntu", "22.04"): "2027-04-01",
    ("ubuntu", "24.04"): "2029-04-25",
    ("ubuntu", "26.04"): "2031-04-30",
    ("centos", "7"): "2024-06-30",
    ("rhel", "7"): "2024-06-30",
    ("rhel", "8"): "2029-05-31",
    ("rhel", "9"): "2032-05-31",
    ("rhel", "10"): "2035-05-31",
    ("rocky", "8"): "2029-05-31",
    ("rocky", "9"): "2032-05-31",
    ("rocky", "10"): "2035-05-31",
    ("almalinux", "8"): "2029-03-01",
    ("almalinux", "9"): "2032-05-31",
    ("almalinux", "10"): "2035-05-31",
}
"""End of free security updates as the distributors publish it (Debian: with LTS). An unlisted release is unknown."""

_PLACEHOLDERS = {"", "none", "0", "not specified", "to be filled by o.e.m.", "default string", "system serial number"}


def read_release(text: str) -> dict[str, Any]:
    """Name, version and whether security updates are still published on the device's own day."""
    today, release = part(text, "today", "release")
    found = settings(release)
    if "ID" not in found:
        raise ValueError("os-release without ID")
    version = found.get("VERSION_ID", "")
    ends_on = SUPPORT_ENDS_ON.get((found["ID"], version)) or SUPPORT_ENDS_ON.get((found["ID"], version.split(".")[0]))
    return {
        "name": found.get("PRETTY_NAME", found["ID"]),
        "id": found["ID"],
        "version": version,
        "support_ends_on": ends_on,
        "supported": None if ends_on is None else day(today) <= day(ends_on),
    }


def read_kernel(text: str) -> dict[str, Any]:
    """Kernel name, release and machine."""
    found = text.split()
    if len(found) != 3:
        raise ValueError("not three words from uname -srm")
    return {"name": found[0], "release": found[1], "machine": found[2]}


def read_boot(text: str) -> dict[str, Any]:
    """The minute of the last start; an uptime would change with every look."""
    found = text.split()
    if len(found) != 2 or found[0] != "btime":
        raise ValueError("no btime line")
    return {"booted_at": moment(found[1]).strftime("%Y-%m-%dT%H:%MZ")}


def read_cpu(text: str) -> dict[str, Any]:
    """Logical processors and the model as the kernel names it."""
    found = lines(text)
    if not found:
        raise ValueError("no processor count")
    model = found[1].partition(":")[2].strip() if len(found) > 1 else ""
    return {"count": whole(found[0]), "model": model}


def _meminfo(text: str) -> dict[str, int]:
    found = re.findall(r"^(\w+):\s+([0-9]{1,15}) kB$", text, re.MULTILINE)
    figures = {key: int(value) for key, value in found}
    if figures.get("MemTotal", 0) <= 0:
        raise ValueError("no MemTotal")
    return figures


def read_memory_size(text: str) -> dict[str, Any]:
    """Memory and swap in MiB."""
    figures = _meminfo(text)
    return {"total_mib": figures["MemTotal"] // 1024, "swap_mib": figures.get("SwapTotal", 0) // 1024}


def read_memory_use(text: str) -> dict[str, Any]:
    """Memory and swap in use, percent in steps of five; no figure for swap where there is none."""
    figures = words_of(text)
    if "used" not in figures:
        raise ValueError("no memory in use")
    swapped = step(number(figures["swapped"]), 5) if "swapped" in figures else None
    return {"used_percent": step(number(figures["used"]), 5), "swap_used_percent": swapped}


def read_load(text: str) -> dict[str, Any]:
    """Load average of 15 minutes per processor, percent in steps of ten."""
    found = lines(text)
    if len(found) != 2:
        raise ValueError("not a processor count and a load")
    processors = whole(found[0])
    if processors < 1:
        raise ValueError("no processor")
    return {"load_percent": step(100 * number(found[1]) / processors, 10)}


def read_virtualisation(text: str) -> dict[str, Any]:
    """What the host runs in: none (bare metal), kvm, vmware, lxc, docker ..."""
    kind = text.strip()
    if not re.fullmatch(r"[a-z][a-z0-9-]*", kind):
        raise ValueError("not one word from systemd-detect-virt")
    return {"kind": kind, "virtual": kind != "none"}


def read_model(text: str) -> dict[str, Any]:
    """Maker, model and firmware date from DMI."""
    found = {}
    for line in lines(text):
        path, sign, value = line.partition(":")
        if sign:
            found[path.rsplit("/", 1)[-1]] = value.strip()
    if not {"sys_vendor", "product_name"} & set(found):
        raise ValueError("no DMI name")
    return {
        "maker": found.get("sys_vendor", ""),
        "model": found.get("product_name", ""),
        "firmware_version": found.get("bios_version", ""),
        "firmware_date": found.get("bios_date", ""),
    }


def read_serial(text: str) -> dict[str, Any]:
    """The serial number and whether the maker wrote a real one."""
    serial = text.strip()
    if len(serial) > 100 or not serial.isprintable():
        raise ValueError("not a serial number")
    return {"serial": serial, "known": serial.lower() not in _PLACEHOLDERS}


def read_name(text: str) -> dict[str, Any]:
    """The host's own name and whether it is still the installer's."""
    name = text.strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", name):
        raise ValueError("not a host name")
    return {"name": name, "factory": name.split(".")[0].lower() in {"localhost", "debian", "ubuntu", "linux"}}


def read_timezone(text: str) -> dict[str, Any]:
    """The zone by its present name."""
    zone = text.strip().partition("zoneinfo/")[2]
    if not re.fullmatch(r"[A-Za-z0-9_+/-]{1,60}", zone):
        raise ValueError("/etc/localtime does not point into zoneinfo")
    zone = zone.removeprefix("posix/")
    return {"zone": {"Asia/Saigon": "Asia/Ho_Chi_Minh"}.get(zone, zone)}


def read_reboot(text: str) -> dict[str, Any]:
    """Whether an update waits for a restart: the distributor's flag, or a newer kernel of the same kind in /boot."""
    running, flag, boot = part(text, "running", "flag", "boot")
    if not running.strip():
        raise ValueError("no running kernel")
    installed = [name.removeprefix("vmlinuz-") for name in boot.split() if name.startswith("vmlinuz-")]
    newest = max(installed, key=_version_key, default="")
    stale = running.strip() in installed and _version_key(newest) > _version_key(running.strip())
    return {"required": bool(flag.strip()) or stale, "kernel_waiting": stale}


def _version_key(text: str) -> tuple[int, ...]:
    return tuple(int(figure) for figure in re.findall(r"[0-9]{1,15}", text))


def read_failed_units(text: str) -> dict[str, Any]:
    """systemd units that failed."""
    units = sorted(line.split()[0] for line in lines(text.replace("●", " ")))
    if not all(re.fullmatch(r"[\w@:.\\-]+\.[a-z]+", unit) for unit in units):
        raise ValueError("not a list of units")
    return {"failed": len(units), "units": units}


def read_printers(text: str) -> dict[str, Any]:
    """Print queues of CUPS on this host and how many of them stand still."""
    installed, queues = part(text, "scheduler", "queues")
    found = [line for line in lines(queues) if line.startswith("printer ")]
    return {
        "scheduler": "scheduler is running" in installed,
        "queues": len(found),
        "stopped": sum(" disabled since " in line for line in found),
    }


FACTS: tuple[Fact, ...] = (
    Fact(
        "os.release",
        "shell",
        "echo '-- today'; date -u +%F; echo '-- release'; cat /etc/os-release",
        read_release,
        "-",
        "os-release(5); end of support as published by the distributors",
    ),
    Fact("os.kernel", "shell", "uname -srm", read_kernel, "-", "uname(1)"),
    Fact("os.boot", "shell", "grep '^btime' /proc/stat", read_boot, "UTC minute", "proc_stat(5)"),
    Fact(
        "os.reboot",
        "shell",
        "echo '-- running'; uname -r; echo '-- flag'; ls /run/reboot-required 2>/dev/null; echo '-- boot'; "
        "ls /boot 2>/dev/null; true",
        read_reboot,
        "-",
        "/run/reboot-required (Debian policy), /boot/vmlinuz-*",
    ),
    Fact(
        "cpu.count",
        "shell",
        "nproc --all; grep -m 1 -i '^model name' /proc/cpuinfo || true",
        read_cpu,
        "logical processors",
        "nproc(1), proc_cpuinfo(5)",
    ),
    Fact(
        "cpu.load",
        "shell",
        "nproc; awk '{ printf \"%.1f\\n\", $3 }' /proc/loadavg",
        read_load,
        "percent per processor, in steps of 10",
        "proc_loadavg(5)",
    ),
    Fact(
        "memory.size",
        "shell",
        "grep -E '^(MemTotal|SwapTotal):' /proc/meminfo",
        read_memory_size,
        "MiB",
        "proc_meminfo(5)",
    ),
    Fact(
        "memory.use",
        "shell",
        "awk '/^MemTotal/ { t = $2 } /^MemAvailable/ { a = $2 } /^SwapTotal/ { s = $2 } /^SwapFree/ { f = $2 } "
        'END { printf "used %d\\n", int(20 * (t - a) / t + 0.5) * 5; '
        'if (s) printf "swapped %d\\n", int(20 * (s - f) / s + 0.5) * 5 }\' /proc/meminfo',
        read_memory_use,
        "percent, in steps of 5",
        "proc_meminfo(5)",
    ),
    Fact(
        "host.virtualisation",
        "shell",
        "command -v systemd-detect-virt >/dev/null || exit 69; systemd-detect-virt || true",
        read_virtualisation,
        "-",
        "systemd-detect-virt(1)",
    ),
    Fact(
        "host.model",
        "shell",
        "cd /sys/class/dmi/id 2>/dev/null || exit 69; "
        "grep -Hs . sys_vendor product_name bios_version bios_date || exit 69",
        read_model,
        "-",
        "/sys/class/dmi/id, SMBIOS 3.0 types 0 and 1",
    ),
    Fact(
        "host.serial",
        "shell",
        "[ -e /sys/class/dmi/id/product_serial ] || exit 69; ${S} /usr/bin/cat /sys/class/dmi/id/product_serial",
        read_serial,
        "-",
        "/sys/class/dmi/id/product_serial, SMBIOS 3.0 type 1",
        privileged=True,
    ),
    Fact("host.name", "shell", "cat /proc/sys/kernel/hostname", read_name, "-", "hostname(5)"),
    Fact("host.timezone", "shell", "readlink -f /etc/localtime", read_timezone, "-", "localtime(5)"),
    Fact(
        "host.failed-units",
        "shell",
        "[ -d /run/systemd/system ] || exit 69; systemctl list-units --state=failed --plain --no-legend --no-pager",
        read_failed_units,
        "units",
        "systemctl(1)",
    ),
    Fact(
        "host.print-queues",
        "shell",
        "command -v lpstat >/dev/null || exit 69; echo '-- scheduler'; lpstat -h localhost -r; echo '-- queues'; "
        "lpstat -h localhost -p 2>/dev/null; true",
        read_printers,
        "queues",
        "lpstat(1) of CUPS",
    ),
)
