"""The lab for integration tests: real hosts in namespaces, brought up once a session; it refuses to skip in CI."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LAB = ROOT / "script" / "lab"

# A program of its own, since a process enters the lab's network only as a whole. The secret comes by file name.
_SNMP_GET = """
import asyncio, sys
from pysnmp.hlapi.v3arch.asyncio import *
from pysnmp.hlapi.v3arch.asyncio import USM_AUTH_HMAC96_SHA, USM_PRIV_CFB128_AES

async def main(path, address, *names):
    lines = [line.partition("=") for line in open(path)]
    secret = {key.strip(): value.strip() for key, _, value in lines}
    if "community" in secret:
        who = CommunityData(secret["community"])
    else:
        who = UsmUserData(secret["user"], secret["auth_key"], secret["priv_key"],
                          authProtocol=USM_AUTH_HMAC96_SHA, privProtocol=USM_PRIV_CFB128_AES)
    target = await UdpTransportTarget.create((address, 161), timeout=2, retries=1)
    asked = [ObjectType(ObjectIdentity(name)) for name in names]
    wrong, status, _, found = await get_cmd(SnmpEngine(), who, target, ContextData(), *asked)
    if wrong or status:
        sys.exit(str(wrong or status))
    for _, value in found:
        print(value.prettyPrint())

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass(frozen=True)
class Lab:
    """The running lab, as a test uses it."""

    dir: Path

    @property
    def inventory(self) -> Path:
        """The Ansible overlay with the hosts' addresses; load it after inventory/hosts.yaml."""
        return self.dir / "inventory.yaml"

    @property
    def hospital(self) -> Path:
        """The overlay of the whole lab, probes included; it exists while the whole lab is up (``whole_lab``)."""
        return self.dir / "hospital.yaml"

    @property
    def vlans(self) -> Path:
        """inventory/vlans.yaml with the lab's subnets; put it beside a copy of inventory/hosts.yaml."""
        return self.dir / "vlans.yaml"

    @property
    def known_hosts(self) -> Path:
        return self.dir / "known_hosts"

    def key(self, name: str) -> Path:
        """The private key ``reader`` or ``play``."""
        return self.dir / "keys" / name

    def secret(self, version: str) -> Path:
        """The secret file for SNMP ``2c`` or ``3``."""
        return self.dir / "secrets" / f"lab-v{version}"

    def exec(self, argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program in the lab's network; the hosts can be reached only from there."""
        return _run([LAB, "exec", *argv], options)

    def inside(self, host: str, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program inside a host, as root there."""
        return _run([LAB, "in", host, *argv], options)

    def run_lab(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``script/lab`` with other words. ``up`` is that of the small lab: most tests need one host of each kind.

        A whole lab that is up stays whole, unless ``--fresh`` begins anew; ``up --whole`` brings up all of it.
        """
        if args[:1] == ("up",):
            args = ("up", *(["--small"] if "--whole" not in args else []), *(a for a in args[1:] if a != "--whole"))
        return _run([LAB, *args], options)

    def status(self) -> dict[str, dict[str, Any]]:
        """What ``status --json`` tells of each host, by name."""
        return {row["name"]: row for row in json.loads(self.run_lab("status", "--json").stdout)["hosts"]}

    def ssh(self, address: str, command: str, key: str = "reader", **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on a host by OpenSSH's own client, with the lab's keys and known hosts alone."""
        user = {"reader": "emrread", "play": "emrplay"}[key]
        hosts = f"UserKnownHostsFile={self.known_hosts}"
        strict = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", hosts, "-o", "ConnectTimeout=3"]
        return self.exec(["ssh", "-F", "none", "-i", self.key(key), *strict, f"{user}@{address}", command], **options)

    def snmp(self, address: str, *names: str, version: str = "3") -> list[str]:
        """The values of these OIDs as pysnmp shows them; fails the test with its words when there are none."""
        done = self.exec([sys.executable, "-W", "ignore", "-c", _SNMP_GET, self.secret(version), address, *names])
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


def _run(argv: Sequence[str | Path], options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "check": False, "timeout": 240} | options
    return subprocess.run([str(word) for word in argv], **settings)  # noqa: PLW1510 - it stands in settings


def _labs_of_workers() -> None:
    """Under pytest-xdist each worker has a lab of its own, by name and folder; they share the base trees."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and "EMRCTL_LAB_BASE" not in os.environ:
        folder = Path(os.environ.get("EMRCTL_LAB_DIR") or ROOT / ".lab").absolute()
        os.environ["EMRCTL_LAB_BASE"] = str(folder / "base")
        os.environ["EMRCTL_LAB_DIR"] = str(folder / worker)
        os.environ["EMRCTL_LAB_NAME"] = (os.environ.get("EMRCTL_LAB_NAME") or "lab")[:5] + worker[-3:]


_labs_of_workers()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab, up. A lab that this session brought up is taken down at its end, unless EMRCTL_LAB_KEEP=1.

    It stays as well when another test session on this machine is using it at that moment.
    """
    if os.geteuid() != 0:
        words = "the lab makes namespaces and mounts, so its tests need root"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    there = Lab(Path(os.environ.get("EMRCTL_LAB_DIR") or ROOT / ".lab").absolute())
    found_up = there.run_lab("status").returncode == 0
    up = there.run_lab("up")
    if up.returncode != 0:
        words = f"script/lab up failed: {up.stderr.strip()}"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    with (there.dir / "sessions").open("a") as sessions:
        fcntl.flock(sessions, fcntl.LOCK_SH)
        yield there
        if found_up or os.environ.get("EMRCTL_LAB_KEEP") == "1":
            return
        try:
            fcntl.flock(sessions, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        there.run_lab("down", check=True)


@pytest.fixture(scope="module")
def whole_lab(lab: Lab) -> Lab:
    """The lab with every host, up: 35 workstations, the printers, both switches, the firewall, storage and probes.

    It stays whole until somebody takes it down, so that later tests of it find it up; the small lab's tests work in it.
    """
    up = lab.run_lab("up", "--whole")
    assert up.returncode == 0, up.stderr
    return lab


def break_glass(folder: Path) -> list[str]:
    """How the account ``an`` asks for an apply whatever the hour: its reason, and its password in a file."""
    secret = folder / "password-of-an"
    secret.touch(mode=0o600)
    secret.write_text("a password of an\n", encoding="utf-8")
    return ["--break-glass", "the lab has no patients", "--by", "an", "--password-file", str(secret)]
