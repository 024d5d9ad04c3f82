"""Disks, filesystems, redundancy and encryption of a Linux host. It reads tables of the kernel and touches no disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from controlplane.collect.facts.linux_text import lines, part, table, whole
from controlplane.domain.model import Fact

_NOT_DATA = {"tmpfs", "devtmpfs", "squashfs", "iso9660", "efivarfs", "ramfs", "fuse.snapfuse"}
_OTHERS_MOUNTS = ("/var/lib/docker/", "/var/lib/containers/", "/run/", "/snap/", "/dev/", "/proc/", "/sys/")
_SHARED_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # names to look for, nothing is written there


def _df(text: str, columns: int) -> Iterator[list[str]]:
    """The cells of every filesystem that holds data; the first is the kind, the last the mount."""
    found = lines(text)
    if not found or not found[0].startswith("Type"):
        raise ValueError("not a table of df")
    for line in found[1:]:
        cells = line.split(None, columns - 1)
        if len(cells) != columns:
            raise ValueError("a line of df with too few columns")
        if cells[0] not in _NOT_DATA and not cells[-1].startswith(_OTHERS_MOUNTS):
            yield cells


def read_usage(text: str) -> list[dict[str, Any]]:
    """One row per filesystem with data: percent used as df counts it, and its size."""
    found = [
        {"mount": mount, "used_percent": whole(used.rstrip("%")), "size_gib": whole(size) // 1024**2}
        for _, size, used, mount in _df(text, 4)
    ]
    return sorted(found, key=lambda row: str(row["mount"]))


def read_inodes(text: str) -> list[dict[str, Any]]:
    """One row per filesystem; a kind without a fixed number of inodes has used none of them."""
    found = [
        {"mount": mount, "used_percent": 0 if used == "-" else whole(used.rstrip("%"))}
        for _, used, mount in _df(text, 3)
    ]
    return sorted(found, key=lambda row: str(row["mount"]))


def read_readonly(text: str) -> dict[str, Any]:
    """Filesystems on disks, and those of them that are mounted read-only (as after an I/O error)."""
    mounts = set()
    frozen = set()
    for line in lines(text):
        cells = line.split()
        if len(cells) != 2 or not cells[0].startswith("/"):
            raise ValueError("not a line of findmnt")
        if cells[0].startswith(_OTHERS_MOUNTS):
            continue
        mounts.add(cells[0])
        if "ro" in cells[1].split(","):
            frozen.add(cells[0])
    return {"filesystems": len(mounts), "readonly": len(frozen), "mounts": sorted(frozen)}


def read_mount_options(text: str) -> dict[str, Any]:
    """Places where everybody may write, and whether set-user-ID programs and devices are kept out of them."""
    options: dict[str, set[str]] = {}
    for line in lines(text):
        cells = line.split()
        if len(cells) != 2 or not cells[0].startswith("/"):
            raise ValueError("not a line of findmnt")
        options[cells[0]] = set(cells[1].split(","))
    weak = [place for place in _SHARED_PLACES if place in options and not {"nosuid", "nodev"} <= options[place]]
    separate = [place for place in _SHARED_PLACES if place in options]
    return {"separate": separate, "weak": weak, "weak_count": len(weak)}


def devices_of(text: str) -> list[dict[str, Any]]:
    """The devices at the top of what ``lsblk -J`` prints."""
    found = table(text)
    devices = found.get("blockdevices") if isinstance(found, dict) else None
    if not isinstance(devices, list) or not all(isinstance(device, dict) for device in devices):
        raise ValueError("not a table of lsblk")
    return devices


def read_devices(text: str) -> dict[str, Any]:
    """Fixed disks: how many, how many of them turn (HDD), and one row each. No serial number."""
    disks = []
    for device in devices_of(text):
        name, size = str(device.get("name")), whole(str(device.get("size") or 0))
        if device.get("type") != "disk" or size == 0 or name.startswith(("zram", "loop", "ram", "nbd")):
            continue
        disks.append(
            {
                "device": name,
                "size_gib": size // 1024**3,
                "solid_state": str(device.get("rota")).lower() in ("0", "false"),
                "removable": str(device.get("rm")).lower() in ("1", "true"),
                "bus": str(device.get("tran") or ""),
                "model": str(device.get("model") or "").strip(),
            }
        )
    disks.sort(key=lambda disk: str(disk["device"]))
    turning = sum(not disk["solid_state"] for disk in disks)
    return {"disks": len(disks), "hdd": turning, "ssd": len(disks) - turning, "rows": disks}


def walk(
    devices: list[Any], above: tuple[str, ...] = (), depth: int = 0
) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Every device of lsblk's tree with the types of itself and of all it stands on."""
    if depth > 50:
        raise ValueError("devices nested too deep")
    for device in devices:
        if not isinstance(device, dict):
            raise ValueError("not a device")
        types = (*above, str(device.get("type")))
        yield device, types
        children = device.get("children") or []
        if not isinstance(children, list):
            raise ValueError("children that are not a list")
        yield from walk(children, types, depth + 1)


def read_encryption(text: str) -> dict[str, Any]:
    """Mounted filesystems that hold data, and how many of them lie on an encrypted volume.

    The boot partition must be readable before the key is known and does not count. Where no mount is seen
    (a container) there is no figure.
    """
    encrypted: dict[str, bool] = {}
    volumes = set()
    for device, types in walk(devices_of(text)):
        if types[-1] == "crypt":
            volumes.add(str(device.get("name")))
        mount = device.get("mountpoint")
        if isinstance(mount, str) and mount.startswith("/") and not mount.startswith(("/boot", "/efi")):
            encrypted[mount] = encrypted.get(mount, False) or "crypt" in types
    covered = sum(encrypted.values())
    return {
        "encrypted_volumes": len(volumes),
        "data_mounts": len(encrypted),
        "encrypted_mounts": covered,
        "all_encrypted": covered == len(encrypted) if encrypted else None,
    }


def read_layers(text: str) -> dict[str, Any]:
    """How many logical volumes, encrypted volumes and software arrays lie between disks and filesystems."""
    seen: dict[str, set[str]] = {"lvm": set(), "crypt": set(), "raid": set()}
    for device, types in walk(devices_of(text)):
        kind = "raid" if types[-1].startswith(("raid", "md")) else types[-1]
        if kind in seen:
            seen[kind].add(str(device.get("name")))
    return {"logical_volumes": len(seen["lvm"]), "encrypted_volumes": len(seen["crypt"]), "arrays": len(seen["raid"])}


def read_raid(text: str) -> dict[str, Any]:
    """Software redundancy: md, btrfs and zfs arrays, the degraded ones, and whether any of them bears a loss.

    A hardware controller hides its disks: with one and without software arrays ``redundant`` has no figure.
    """
    md, btrfs, zfs, controllers = part(text, "md", "btrfs", "zfs", "controllers")
    arrays = [*_md_arrays(md), *_btrfs_arrays(btrfs), *_zfs_arrays(zfs)]
    hidden = len(lines(controllers))
    bearing = sum(redundant for redundant, _ in arrays)
    return {
        "arrays": len(arrays),
        "degraded": sum(degraded for _, degraded in arrays),
        "redundant": None if hidden and not arrays else bearing > 0,
        "hardware_controllers": hidden,
    }


def _md_arrays(text: str) -> Iterator[tuple[bool, bool]]:
    found = re.findall(r"^(md\S+) : (\S+)(?: \(.*?\))? (?:(raid\d+|linear) )?.*\n(.*)$", text, re.MULTILINE)
    for _, state, level, detail in found:
        members = re.search(r"\[([U_]+)\]", detail)
        broken = bool(members and "_" in members[1])
        yield level in ("raid1", "raid4", "raid5", "raid6", "raid10"), broken or state != "active"


def _btrfs_arrays(text: str) -> Iterator[tuple[bool, bool]]:
    """Lines ``devices missing profiles``; one device alone is no array."""
    for line in lines(text):
        cells = line.split()
        if len(cells) < 2:
            raise ValueError("not a line about btrfs")
        devices, missing = whole(cells[0]), whole(cells[1])
        if devices + missing > 1:
            yield any(p.startswith("raid") and p != "raid0" for p in cells[2:]), missing > 0


def _zfs_arrays(text: str) -> Iterator[tuple[bool, bool]]:
    """Lines ``health vdev vdev``: mirror and raidz bear a loss."""
    for line in lines(text):
        cells = line.split()
        yield any(c.startswith(("mirror", "raidz", "draid")) for c in cells[1:]), cells[0] != "ONLINE"


_DISK_NAMES = (*(f"sd{letter}" for letter in "abcdefghijklmnop"), *(f"nvme{number}" for number in range(12)))
_WORN_ATTRIBUTES = {"5", "197", "198"}  # sectors replaced, waiting to be replaced, and lost


def read_smart(text: str) -> dict[str, Any]:
    """What disks say of their own health: how many fail by their own account, and how many say nothing.

    A disk fails when its own verdict is bad or an NVMe disk warns. ``failing`` has no figure where no disk says a word.
    """
    rows = [_disk_health(*disk) for disk in _smart_disks(text)]
    speaking = [row for row in rows if row["healthy"] is not None]
    return {
        "disks": len(rows),
        "failing": sum(not row["healthy"] for row in speaking) if speaking else None,
        "silent": len(rows) - len(speaking),
        "bad_sectors": sum(row["bad_sectors"] for row in rows),
        "rows": rows,
    }


def _smart_disks(text: str) -> list[tuple[str, list[str]]]:
    """The lines about each disk, after the line ``-- disk NAME``."""
    found: list[tuple[str, list[str]]] = []
    for line in lines(text):
        if line.startswith("-- disk "):
            found.append((line.removeprefix("-- disk "), []))
        elif found:
            found[-1][1].append(line)
        else:
            raise ValueError("not what smartctl tells of disks")
    return found


def _disk_health(device: str, told: list[str]) -> dict[str, Any]:
    verdicts = set()
    warning, bad = 0, 0
    for line in told:
        name, _, value = line.partition(":")
        cells = line.split()
        if name in ("SMART overall-health self-assessment test result", "SMART Health Status"):
            verdicts.add(value.split()[0] if value.split() else "")
        elif name == "Critical Warning":
            warning = int(value.strip(), 16)
        elif cells[0] in _WORN_ATTRIBUTES and len(cells) >= 10:
            bad += whole(cells[9])
        elif name == "Media and Data Integrity Errors":
            bad += whole(value.strip().replace(",", ""))
    healthy = None if not verdicts and not warning else verdicts <= {"PASSED", "OK"} and not warning
    return {"device": device, "healthy": healthy, "bad_sectors": bad}


def read_swap(text: str) -> dict[str, Any]:
    """Swap areas and their size."""
    found = lines(text)
    if not found or not found[0].startswith("Filename"):
        raise ValueError("not /proc/swaps")
    sizes = []
    for line in found[1:]:
        cells = line.split()
        if len(cells) != 5:
            raise ValueError("a line of /proc/swaps with too few columns")
        sizes.append(whole(cells[2]))
    return {"areas": len(sizes), "size_mib": sum(sizes) // 1024}


_BTRFS = (
    'for d in /sys/fs/btrfs/*-*; do [ -d "$d" ] || continue; '
    'echo "$(ls "$d/devices" | wc -l) $(cat "$d"/devinfo/*/missing 2>/dev/null | grep -c 1) '
    '$(cd "$d/allocation/data" && ls -d raid* single dup 2>/dev/null | tr "\\n" " ")"; done; '
)
_ZFS = (
    "if [ -d /proc/spl/kstat/zfs ] && command -v zpool >/dev/null; then for p in $(zpool list -H -o name); do "
    'echo "$(zpool list -H -o health "$p") $(zpool status "$p" | grep -oE "(mirror|raidz[0-9]*|draid[0-9]*)-[0-9]+" '
    '| tr "\\n" " ")"; done; fi; '
)

# One exact command line for each disk that may be there: the read-only account is allowed exactly these. The filter
# keeps what changes with a disk's health, not its temperature, hours and serial number.
_SMART = "[ -x /usr/sbin/smartctl ] || exit 69; " + "".join(
    f"if [ -e /dev/{name} ]; then echo '-- disk {name}'; r=$(${{S}} /usr/sbin/smartctl -H -A /dev/{name}); "
    '[ -n "$r" ] || exit 77; echo "$r" | grep -E "^(SMART |Critical W|Media and Data|  5 |197 |198 )"; fi; '
    for name in _DISK_NAMES
)

FACTS: tuple[Fact, ...] = (
    Fact(
        "disk.usage",
        "shell",
        "df -l -k --output=fstype,size,pcent,target || true",
        read_usage,
        "percent per filesystem",
        "df(1)",
    ),
    Fact(
        "disk.inodes",
        "shell",
        "df -l --output=fstype,ipcent,target || true",
        read_inodes,
        "percent per filesystem",
        "df(1)",
    ),
    Fact(
        "disk.readonly",
        "shell",
        "findmnt -rn -o TARGET,OPTIONS -t ext2,ext3,ext4,xfs,btrfs,zfs,f2fs,overlay || true",
        read_readonly,
        "filesystems",
        "findmnt(8)",
    ),
    Fact(
        "disk.mount-options",
        "shell",
        "findmnt -rn -o TARGET,OPTIONS | grep -E '^(/tmp|/var/tmp|/dev/shm) ' || true",
        read_mount_options,
        "places",
        "findmnt(8), mount(8)",
    ),
    Fact(
        "disk.devices",
        "shell",
        "lsblk -J -b -d -o NAME,TYPE,SIZE,ROTA,RM,TRAN,MODEL",
        read_devices,
        "disks; GiB per disk",
        "lsblk(8)",
    ),
    Fact(
        "disk.encryption",
        "shell",
        "lsblk -J -o NAME,TYPE,MOUNTPOINT",
        read_encryption,
        "filesystems",
        "lsblk(8), cryptsetup(8)",
    ),
    Fact("disk.layers", "shell", "lsblk -J -o NAME,TYPE", read_layers, "volumes", "lsblk(8), lvm(8), md(4)"),
    Fact(
        "disk.raid",
        "shell",
        f"echo '-- md'; cat /proc/mdstat 2>/dev/null; echo '-- btrfs'; {_BTRFS}echo '-- zfs'; {_ZFS}"
        "echo '-- controllers'; grep -l '^0x0104' /sys/bus/pci/devices/*/class 2>/dev/null; true",
        read_raid,
        "arrays",
        "md(4) /proc/mdstat, /sys/fs/btrfs, zpool(8), PCI class 0104",
    ),
    Fact("disk.smart", "shell", _SMART + "true", read_smart, "disks", "smartctl(8) -H -A", privileged=True),
    Fact("memory.swap", "shell", "cat /proc/swaps", read_swap, "MiB", "proc_swaps(5)"),
)
