"""What this machine lacks and how to get it, for ``emrctl doctor``. It mends nothing and starts no program.

Every examination looks (a file, the kernel, a free port) and returns an ``Ailment``; none raises. Versions of Debian
packages are read from dpkg's own record, since only four modules of the house may start a program.
"""

from __future__ import annotations

import ctypes
import locale
import os
import re
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from zoneinfo import ZoneInfo

from controlplane.domain.model import Words
from controlplane.settings import OWN_RESTIC

PYTHONS = ((3, 11), (3, 13))  # the oldest and the newest that requirements/*.lock are made for
RESTIC_FROM = (0, 18)  # the first restic whose repository checks the backup drills rely on
NEEDED_BYTES = 2_000_000_000
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


@dataclass(frozen=True)
class Ailment:
    """One examination: whether it is well, what that is needed for, what was found, how to mend it.

    ``optional`` ones are reported and do not make the machine unfit.
    """

    id: str
    ok: bool
    needed_for: Words
    found: str
    remedy: Words
    optional: bool = False


@dataclass(frozen=True)
class Surroundings:
    """Where to look; the defaults are this machine, tests point elsewhere."""

    repo: Path
    data_dir: Path
    signing_key: Path
    port: int = 8080
    host: str = "127.0.0.1"
    zone: str = "Asia/Ho_Chi_Minh"
    dpkg_status: Path = Path("/var/lib/dpkg/status")
    proc: Path = Path("/proc")
    programs: str | None = None  # a PATH to search; None: the process's own, after this Python's own folder


def examine(around: Surroundings) -> tuple[Ailment, ...]:
    """Every examination, in the order in which one would mend what is ill."""
    packages = installed_packages(around.dpkg_status)
    return (
        _python(sys.version_info[:3]),
        _locked_libraries(around.repo / "requirements" / "base.lock"),
        *(_program(around, packages, wanted) for wanted in PROGRAMS),
        _restic(around, packages),
        _rights(around),
        _data_dir(around.data_dir),
        _signing_key(around.signing_key),
        _port(around.host, around.port),
        _disk(around.data_dir),
        _clock(),
        _zone(around.zone),
        _locale(locale.getencoding()),
        _lab(around),
    )


# ---------------------------------------------------------------------------------------- Python and its libraries


def _python(version: tuple[int, ...]) -> Ailment:
    low, high = (".".join(map(str, bound)) for bound in PYTHONS)
    return Ailment(
        "python",
        PYTHONS[0] <= tuple(version[:2]) <= PYTHONS[1],
        Words("toàn bộ phần mềm", "everything"),
        ".".join(map(str, version)),
        Words(
            f"Dùng Python {low} đến {high}: python3 của Debian 12 hoặc 13, rồi chạy lại script/server.",
            f"Use Python {low} to {high}: python3 of Debian 12 or 13, then run script/server again.",
        ),
    )


def locked_versions(text: str) -> dict[str, tuple[set[str], bool]]:
    """What a lock file pins: name -> (allowed versions, may be absent).

    A name whose every line carries an environment marker may be absent, as colorama is outside Windows.
    """
    pins: dict[str, tuple[set[str], bool]] = {}
    for name, version, marker in re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)[ \t]*(;)?", text, flags=re.MULTILINE):
        versions, absent = pins.get(name, (set(), True))
        pins[name] = (versions | {version}, absent and bool(marker))
    return pins


def out_of_step(pins: Mapping[str, tuple[set[str], bool]], installed: Callable[[str], str | None]) -> list[str]:
    """The libraries that differ from their pins, each as ``name found`` or ``name missing``, sorted."""
    wrong = []
    for name, (versions, may_be_absent) in sorted(pins.items()):
        found = installed(name)
        if found is None and not may_be_absent:
            wrong.append(f"{name} missing")
        elif found is not None and found not in versions:
            wrong.append(f"{name} {found}")
    return wrong


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _locked_libraries(lock: Path) -> Ailment:
    try:
        pins = locked_versions(lock.read_text("utf-8"))
        wrong = out_of_step(pins, _installed_version)
        found = ", ".join(wrong[:5]) or f"{len(pins)} locked, all in step"
        ok = not wrong and bool(pins)
    except (OSError, ValueError) as error:
        ok, found = False, f"{lock.name} cannot be read: {type(error).__name__}"
    return Ailment(
        "libraries",
        ok,
        Words("chạy đúng các phiên bản đã khóa và đã kiểm thử", "running the versions that were locked and tested"),
        found,
        Words(
            "Chạy lại script/server: nó cài đúng requirements/base.lock.",
            "Run script/server again: it installs base.lock.",
        ),
    )


# ------------------------------------------------------------------------------------------------------- programs


@dataclass(frozen=True)
class Wanted:
    """A program, the Debian package that brings it, and what for."""

    program: str
    package: str
    needed_for: Words
    optional: bool = False


PROGRAMS = (
    Wanted("ssh", "openssh-client", Words("chạy playbook trên máy ở xa", "running playbooks on other machines")),
    Wanted("ssh-keygen", "openssh-client", Words("tạo khóa để đọc thiết bị", "making the keys that read devices")),
    Wanted(
        "openssl",
        "openssl",
        Words("kiểm tra chứng thư và gói bằng chứng", "checking certificates and evidence bundles"),
    ),
    Wanted("git", "git", Words("lấy và cập nhật phần mềm", "getting and updating the software")),
    Wanted("ansible-playbook", "", Words("xem trước và áp dụng playbook", "previewing and applying playbooks")),
    Wanted("chromium", "chromium", Words("kiểm thử giao diện", "the browser tests"), optional=True),
    Wanted("sshd", "openssh-server", Words("kiểm thử qua SSH", "the tests over SSH"), optional=True),
    Wanted("snmpd", "snmpd", Words("kiểm thử qua SNMP", "the tests over SNMP"), optional=True),
)


def installed_packages(status: Path) -> dict[str, str]:
    """Debian packages that are fully installed, name -> version, from dpkg's record; empty when there is none."""
    try:
        text = status.read_text("utf-8", errors="replace")
    except OSError:
        return {}
    packages = {}
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", paragraph, flags=re.MULTILINE))
        if fields.get("Status", "").endswith(" ok installed") and {"Package", "Version"} <= fields.keys():
            packages[fields["Package"]] = fields["Version"]
    return packages


def _find(around: Surroundings, program: str) -> str | None:
    """Where a program is. This Python's own folder comes first, then PATH and the folders of daemons."""
    if around.programs is not None:
        return shutil.which(program, path=around.programs)
    own = Path(sys.executable).parent
    return shutil.which(program, path=os.pathsep.join((str(own), os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


def _program(around: Surroundings, packages: Mapping[str, str], wanted: Wanted) -> Ailment:
    place = _find(around, wanted.program)
    version = packages.get(wanted.package)
    found = place or f"{wanted.program} missing"
    if place and version:
        found = f"{place} ({wanted.package} {version})"
    if wanted.package:
        remedy = Words(f"sudo apt-get install {wanted.package}", f"sudo apt-get install {wanted.package}")
    else:
        remedy = Words(
            "Chạy lại script/server: chương trình này nằm trong .venv.", "Run script/server again: it is part of .venv."
        )
    return Ailment(f"program.{wanted.program}", place is not None, wanted.needed_for, found, remedy, wanted.optional)


def debian_version(text: str) -> tuple[int, ...]:
    """The leading numbers of a Debian version: ``0.18.0-1+b3`` -> (0, 18, 0); empty when there are none."""
    match = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _restic(around: Surroundings, packages: Mapping[str, str]) -> Ailment:
    own = around.repo / OWN_RESTIC
    place = str(own) if own.exists() else _find(around, "restic")
    version = packages.get("restic", "") if place == "/usr/bin/restic" or around.programs is not None else ""
    kept = place == str(
        own
    )  # the one that the program itself takes first; script/restic puts none there that is too old
    if kept:
        found = f"{OWN_RESTIC} (script/restic)"
    elif place is None:
        found = "restic missing"
    else:
        found = f"{place} {version}".strip() if version else f"{place}, version not known to dpkg"
    wish = ".".join(map(str, RESTIC_FROM))
    return Ailment(
        "program.restic",
        kept or (place is not None and debian_version(version) >= RESTIC_FROM),
        Words("sao lưu, kiểm tra bản sao và diễn tập phục hồi", "backups, their checks and restore drills"),
        found,
        Words(
            f"Cần restic {wish} trở lên. Debian 13: sudo apt-get install restic. Debian 12 chỉ có 0.14: chạy script/restic để "
            "lấy gói của Debian 13 vào var/tools. Nếu tự cài ngoài dpkg, hãy tự kiểm tra bằng: restic version",
            f"restic {wish} or newer is needed. Debian 13: sudo apt-get install restic. Debian 12 has only 0.14: run "
            "script/restic, which puts Debian 13's into var/tools. If it came from elsewhere, look yourself: restic version",
        ),
        optional=True,
    )


# ------------------------------------------------------------------------------------------------ rights and places


def _rights(around: Surroundings) -> Ailment:
    root = os.geteuid() == 0
    sudo = _find(around, "sudo")
    return Ailment(
        "rights",
        root or sudo is not None,
        Words(
            "đọc những điều chỉ root được đọc trên máy này và áp dụng playbook tại đây",
            "reading what only root may read on this machine, and applying playbooks here",
        ),
        "root" if root else (f"user {os.geteuid()}, {sudo}" if sudo else f"user {os.geteuid()}, no sudo"),
        Words(
            "Chạy bằng root, hoặc: apt-get install sudo và cấp đúng danh sách lệnh đọc.",
            "Run as root, or: apt-get install sudo and grant the list of reading commands.",
        ),
    )


def _mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def _data_dir(place: Path) -> Ailment:
    ok = False
    try:
        if not place.exists():
            found = f"{place} does not exist"
        elif not place.is_dir():
            found = f"{place} is not a folder"
        else:
            mode, writable = _mode(place), os.access(place, os.W_OK | os.X_OK)
            ok = writable and mode == "0700"
            found = f"{place}, mode {mode}" + ("" if writable else ", not writable")
    except OSError as error:
        found = f"{place}: {error.strerror}"
    return Ailment(
        "data-dir",
        ok,
        Words("giữ dữ liệu, khóa và nhật ký kín với người khác", "keeping the record, keys and logs from others' eyes"),
        found,
        Words(
            f"emrctl init tạo thư mục; sửa quyền: chmod 700 {place}, và dùng đúng tài khoản sở hữu nó.",
            f"emrctl init makes the folder; mend its rights: chmod 700 {place}, and use the account that owns it.",
        ),
    )


def _signing_key(key: Path) -> Ailment:
    ok = False
    try:
        if not key.is_file():
            found = f"{key} missing"
        else:
            mode = _mode(key)
            ok = mode == "0600" and key.stat().st_size > 0
            found = f"{key}, mode {mode}" + ("" if key.stat().st_size else ", empty")
    except OSError as error:
        found = f"{key}: {error.strerror}"
    return Ailment(
        "signing-key",
        ok,
        Words("ký gói bằng chứng", "signing evidence bundles"),
        found,
        Words(
            f"emrctl init tạo khóa khi chưa có; sửa quyền: chmod 600 {key}. Khóa đã mất thì lấy lại từ bản sao lưu.",
            f"emrctl init makes one when there is none; mend its rights: chmod 600 {key}. Fetch a lost one from the backup.",
        ),
    )


def _port(host: str, port: int) -> Ailment:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        ok, found = True, f"{host}:{port} free"
    except (OSError, OverflowError) as error:
        ok, found = False, f"{host}:{port}: {getattr(error, 'strerror', None) or error}"
    return Ailment(
        "port",
        ok,
        Words(
            "mở bảng điều khiển (đang mở thì cổng bận là đúng)", "serving the dashboard (taken is right while it runs)"
        ),
        found,
        Words(
            f"Nếu bảng điều khiển chưa chạy, hãy chọn cổng khác: script/server --port {port + 1}",
            f"If the dashboard is not running, choose another port: script/server --port {port + 1}",
        ),
        optional=True,
    )


def _disk(place: Path) -> Ailment:
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
        found = f"{free / 1e9:.1f} GB free at {place}"
    except OSError as error:
        free, found = 0, f"{place}: {error.strerror}"
    return Ailment(
        "disk",
        free >= NEEDED_BYTES,
        Words("giữ bằng chứng lâu dài", "keeping evidence for long"),
        found,
        Words(
            "Cần ít nhất 2 GB: dọn ổ đĩa, hoặc chuyển dữ liệu sang ổ khác bằng --data-dir.",
            "At least 2 GB are needed: clean the disk, or move the data elsewhere with --data-dir.",
        ),
    )


# ------------------------------------------------------------------------------------------------ time and language


def _clock_state() -> int | None:
    """What adjtimex(2) says of the clock, changing nothing; None when it may not be asked."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        # struct timex is 208 bytes on 64-bit Linux; modes = 0 in its first field means: only read.
        state = int(libc.adjtimex(ctypes.create_string_buffer(512)))
    except (OSError, AttributeError):
        return None
    return state if state >= 0 else None


def _clock(state: Callable[[], int | None] = _clock_state) -> Ailment:
    answer = state()
    words = {None: "the kernel may not be asked", TIME_ERROR: "the kernel says: not synchronised"}
    return Ailment(
        "clock",
        answer is not None and answer != TIME_ERROR,
        Words("giờ của bằng chứng và hạn của đợt kiểm tra", "the times of evidence and the age of answers"),
        words.get(answer, "the kernel says: synchronised"),
        Words(
            "sudo apt-get install systemd-timesyncd, rồi: sudo timedatectl set-ntp true (máy ảo: đồng bộ tại máy chủ chứa nó).",
            "sudo apt-get install systemd-timesyncd, then: sudo timedatectl set-ntp true (in a container: on its host).",
        ),
        optional=True,
    )


def _zone(name: str) -> Ailment:
    try:
        ok, found = True, str(ZoneInfo(name))
    except (OSError, ValueError, KeyError):
        ok, found = False, f"{name} unknown"
    return Ailment(
        "time-zone",
        ok,
        Words("ngày giờ của bệnh viện trên trang và báo cáo", "the hospital's dates on pages and reports"),
        found,
        Words("sudo apt-get install tzdata", "sudo apt-get install tzdata"),
    )


def _locale(encoding: str) -> Ailment:
    return Ailment(
        "locale",
        encoding.lower().replace("-", "") == "utf8",
        Words("tiếng Việt trên dòng lệnh, và Ansible", "Vietnamese on the command line, and Ansible"),
        encoding,
        Words("Đặt LANG=C.UTF-8 trước khi chạy.", "Set LANG=C.UTF-8 before running."),
    )


# -------------------------------------------------------------------------------------------------------------- lab


def _lab(around: Surroundings) -> Ailment:
    lacks = []
    if os.geteuid() != 0:
        lacks.append("root")
    if not (around.proc / "self" / "ns" / "net").exists():
        lacks.append("network namespaces")
    try:
        filesystems = (around.proc / "filesystems").read_text("utf-8").split()
    except OSError:
        filesystems = []
    if "overlay" not in filesystems:
        lacks.append("overlayfs")
    lacks += [program for program in ("ip", "mmdebstrap", "systemd-nspawn") if _find(around, program) is None]
    return Ailment(
        "lab",
        not lacks,
        Words(
            "phòng thử: máy thật trong không gian mạng riêng", "the lab: real hosts in network namespaces of their own"
        ),
        "possible" if not lacks else "lacks " + ", ".join(lacks),
        Words(
            "Chạy bằng root: apt-get install iproute2 mmdebstrap systemd-container; nhân Linux phải có overlayfs (modprobe overlay).",
            "As root: apt-get install iproute2 mmdebstrap systemd-container; the kernel must have overlayfs (modprobe overlay).",
        ),
        optional=True,
    )
