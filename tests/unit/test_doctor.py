"""The doctor on made-up surroundings: each ailment is found, named and has a way out; nothing raises."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane import doctor
from controlplane.doctor import Ailment, Surroundings, examine
from controlplane.settings import OWN_RESTIC

LOCK = """
alembic==1.20.1 \\
    --hash=sha256:00
ansible-core==2.19.14 ; python_full_version < '3.12' \\
    --hash=sha256:00
ansible-core==2.21.5 ; python_full_version >= '3.12' \\
    --hash=sha256:00
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:00
    # via click
"""
STATUS = """Package: restic
Status: install ok installed
Priority: optional
Version: {restic}
Description: backup program
 Version: 9.9 (a line of a description is no field)

Package: snmpd
Status: deinstall ok config-files
Version: 5.9.3
"""


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    """A machine on which everything is well, as far as files can say."""
    data, programs, proc = tmp_path / "data", tmp_path / "bin", tmp_path / "proc"
    for folder in (data / "keys", programs, proc / "self" / "ns", tmp_path / "requirements"):
        folder.mkdir(parents=True)
    data.chmod(0o700)
    key = data / "keys" / "signing.pem"
    key.write_text("a key")
    key.chmod(0o600)
    (proc / "self" / "ns" / "net").touch()
    (proc / "filesystems").write_text("nodev\tsysfs\nnodev\toverlay\n\text4\n")
    for name in (
        *(wanted.program for wanted in doctor.PROGRAMS),
        "restic",
        "sudo",
        "ip",
        "mmdebstrap",
        "systemd-nspawn",
    ):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    status = tmp_path / "status"
    status.write_text(STATUS.format(restic="0.18.0-1+b3"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Surroundings(tmp_path, data, key, port, dpkg_status=status, proc=proc, programs=str(programs))


def found(around: Surroundings) -> dict[str, Ailment]:
    return {ailment.id: ailment for ailment in examine(around)}


def test_everything_is_well(around: Surroundings) -> None:
    ill = {name for name, ailment in found(around).items() if not ailment.ok}
    # The clock, the account and the locked libraries are this machine's own.
    assert ill <= {"clock", "lab", "libraries", "locale"}


def test_every_ailment_says_what_for_and_how_in_both_tongues(around: Surroundings) -> None:
    ailments = examine(around)
    assert len({ailment.id for ailment in ailments}) == len(ailments)
    for ailment in ailments:
        assert all((ailment.found, ailment.needed_for.vi, ailment.needed_for.en, ailment.remedy.vi, ailment.remedy.en))


def test_an_empty_machine_is_ill_and_nothing_raises(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    empty = Surroundings(
        nowhere,
        nowhere,
        nowhere / "key",
        99999,
        zone="Mars/Olympus",
        dpkg_status=nowhere,
        proc=nowhere,
        programs="/nowhere",
    )
    ill = {name for name, ailment in found(empty).items() if not ailment.ok}
    assert {"libraries", "program.ssh", "program.restic", "data-dir", "signing-key", "port", "time-zone", "lab"} <= ill
    assert not {"python", "disk"} & ill


def test_pins_are_read_with_their_markers() -> None:
    pins = doctor.locked_versions(LOCK)
    assert pins == {
        "alembic": ({"1.20.1"}, False),
        "ansible-core": ({"2.19.14", "2.21.5"}, True),
        "colorama": ({"0.4.6"}, True),
    }


@pytest.mark.parametrize(
    ("installed", "wrong"),
    [
        ({"alembic": "1.20.1", "ansible-core": "2.21.5"}, []),
        ({"alembic": "1.19.0", "ansible-core": "2.21.5"}, ["alembic 1.19.0"]),
        ({"ansible-core": "2.18.0"}, ["alembic missing", "ansible-core 2.18.0"]),
    ],
)
def test_libraries_out_of_step_are_named(installed: dict[str, str], wrong: list[str]) -> None:
    assert doctor.out_of_step(doctor.locked_versions(LOCK), installed.get) == wrong


def test_an_empty_lock_is_no_good_news(around: Surroundings) -> None:
    (around.repo / "requirements" / "base.lock").write_text("")
    assert not found(around)["libraries"].ok


def test_only_installed_packages_count(around: Surroundings) -> None:
    assert doctor.installed_packages(around.dpkg_status) == {"restic": "0.18.0-1+b3"}


@pytest.mark.parametrize(
    ("version", "well"), [("0.18.0-1+b3", True), ("0.14.0-1+b5", False), ("1:1.2", True), ("?", False)]
)
def test_restic_must_be_new_enough(around: Surroundings, version: str, well: bool) -> None:
    around.dpkg_status.write_text(STATUS.format(restic=version))
    ailment = found(around)["program.restic"]
    assert ailment.ok is well
    assert version in ailment.found


def test_the_restic_that_the_program_itself_takes_is_the_one_that_is_looked_at(around: Surroundings) -> None:
    around.dpkg_status.write_text(STATUS.format(restic="0.14.0-1+b5"))
    ailment = found(around)["program.restic"]
    assert not ailment.ok
    assert "script/restic" in ailment.remedy.vi
    own = around.repo / OWN_RESTIC
    own.parent.mkdir(parents=True)
    own.touch(0o755)
    ailment = found(around)["program.restic"]
    assert ailment.ok
    assert str(OWN_RESTIC) in ailment.found


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777])
def test_a_data_folder_open_to_others_is_named_with_its_mode(around: Surroundings, mode: int) -> None:
    around.data_dir.chmod(mode)
    ailment = found(around)["data-dir"]
    assert not ailment.ok
    assert f"{mode:04o}" in ailment.found
    assert f"chmod 700 {around.data_dir}" in ailment.remedy.en


def test_a_file_where_the_data_folder_should_be(around: Surroundings) -> None:
    ailment = found(replace(around, data_dir=around.signing_key))["data-dir"]
    assert not ailment.ok
    assert "not a folder" in ailment.found


def test_a_key_that_others_may_read_or_that_is_empty(around: Surroundings) -> None:
    around.signing_key.chmod(0o644)
    assert not found(around)["signing-key"].ok
    around.signing_key.chmod(0o600)
    assert found(around)["signing-key"].ok
    around.signing_key.write_text("")
    assert "empty" in found(around)["signing-key"].found


def test_a_taken_port(around: Surroundings) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", around.port))
        holder.listen()
        ailment = found(around)["port"]
    assert not ailment.ok
    assert str(around.port) in ailment.found


@pytest.mark.parametrize(("state", "well"), [(0, True), (1, True), (doctor.TIME_ERROR, False), (None, False)])
def test_a_clock_is_well_only_when_the_kernel_says_so(state: int | None, well: bool) -> None:
    assert doctor._clock(lambda: state).ok is well


@pytest.mark.parametrize(
    ("version", "well"), [((3, 10, 9), False), ((3, 11, 2), True), ((3, 13, 5), True), ((3, 14, 0), False)]
)
def test_python_between_the_two_bounds(version: tuple[int, ...], well: bool) -> None:
    assert doctor._python(version).ok is well


@pytest.mark.parametrize(("encoding", "well"), [("UTF-8", True), ("utf8", True), ("ANSI_X3.4-1968", False)])
def test_a_locale_that_holds_vietnamese(encoding: str, well: bool) -> None:
    assert doctor._locale(encoding).ok is well


def test_what_the_lab_lacks_is_listed(around: Surroundings) -> None:
    (around.proc / "filesystems").write_text("ext4\n")
    (Path(str(around.programs)) / "mmdebstrap").unlink()
    ailment = found(around)["lab"]
    assert not ailment.ok
    assert "overlayfs" in ailment.found
    assert "mmdebstrap" in ailment.found
