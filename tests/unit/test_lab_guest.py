"""The lab's guest without a guest: what QEMU is told, what its monitor answers, and the archive the kernel unpacks."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import guest, vm
from lab.__main__ import serial_number
from lab.folder import Folder, LabError
from lab.processes import Process
from lab.qmp import Monitor

# ------------------------------------------------------------------------------------------------ command line


def _argv(tmp_path: Path, accelerator: str) -> list[str]:
    return vm._argv(guest.Image(tmp_path / "image"), accelerator)


@pytest.mark.parametrize("accelerator", sorted(vm._ACCELERATORS))
def test_each_disk_carries_its_serial_number_and_only_the_root_forgets_what_is_written(
    tmp_path: Path, accelerator: str
) -> None:
    argv = _argv(tmp_path, accelerator)
    devices = [word for flag, word in itertools.pairwise(argv) if flag == "-device"]
    named = {word.partition("serial=")[2].partition(",")[0]: word.partition(",")[0] for word in devices}
    assert {serial: kind for serial, kind in named.items() if serial} == {
        **dict.fromkeys(vm.DISKS, "nvme"),
        vm.ATA_DISK: "ide-hd",
        "LAB-ROOT": "virtio-blk-pci",
    }
    (root,) = (word for flag, word in itertools.pairwise(argv) if flag == "-drive")
    assert "snapshot=on" in root.split(",")
    assert not [word for word in argv if "snapshot=on" in word and word != root]


@pytest.mark.parametrize("accelerator", sorted(vm._ACCELERATORS))
def test_the_guest_has_no_way_out_but_the_labs_own_bridge(tmp_path: Path, accelerator: str) -> None:
    argv = _argv(tmp_path, accelerator)
    networks = [word for flag, word in itertools.pairwise(argv) if flag == "-netdev"]
    assert networks == ["tap,id=net0,ifname=nas-02,script=no,downscript=no"]
    assert "-nodefaults" in argv
    assert argv[argv.index("-display") + 1] == "none"


def test_an_emulated_guest_has_one_processor(tmp_path: Path) -> None:
    argv = _argv(tmp_path, "tcg")
    assert argv[argv.index("-smp") + 1] == "1"


# ----------------------------------------------------------------------------------------------------- monitor


class Qemu:
    """The other end of a monitor's socket: it greets, takes commands, and answers what it was given to answer."""

    def __init__(self, folder: Path, *answers: list[dict[str, Any]], greets: bool = True) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answers = answers
        self._greets = greets
        self._ear = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        os.chdir(folder)  # a socket's path may not be long
        try:
            self._ear.bind("qmp")
        finally:
            os.chdir(here)
        self._ear.listen(1)
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        line, _ = self._ear.accept()
        with line, line.makefile("rw", encoding="utf-8") as words:
            if not self._greets:
                return
            print(json.dumps({"QMP": {"version": {}, "capabilities": []}}), file=words, flush=True)
            for answer in ([{"return": {}}], *self._answers):
                self.asked.append(json.loads(words.readline()))
                # In two pieces that end nowhere sensible: a stream keeps no borders.
                text = "".join(json.dumps(one) + "\r\n" for one in answer).encode()
                for piece in (text[:7], text[7:]):
                    line.sendall(piece)

    def close(self) -> None:
        self._thread.join(5)
        self._ear.close()


def test_the_monitor_tells_an_answer_from_the_events_before_it_and_remembers_those(tmp_path: Path) -> None:
    gone = {"event": "DEVICE_DELETED", "data": {"device": "LAB-A1"}}
    qemu = Qemu(tmp_path, [{"event": "STOP"}, gone, {"return": {"status": "running"}}])
    with Monitor(tmp_path) as monitor:
        assert monitor.ask("query-status", detail=1) == {"status": "running"}
        monitor.await_event("DEVICE_DELETED", "LAB-A1", 0.0)  # it came before, so nothing is waited for
    qemu.close()
    assert qemu.asked == [
        {"execute": "qmp_capabilities", "arguments": {}},
        {"execute": "query-status", "arguments": {"detail": 1}},
    ]


def test_another_devices_event_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    gone = {"event": "DEVICE_DELETED", "data": {"device": "LAB-A1"}}
    qemu = Qemu(tmp_path, [{"return": {}}, gone], [{"return": {}}])
    with Monitor(tmp_path) as monitor:
        monitor.ask("device_del", id="LAB-A2")
        with pytest.raises(LabError, match=r"did not let go of LAB-A2|says nothing"):
            monitor.await_event("DEVICE_DELETED", "LAB-A2", 0.2)
        monitor.ask("query-status")
    qemu.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"error": {"class": "GenericError", "desc": "Device 'x' not found"}},
            "refuses device_del: Device 'x' not found",
        )
    ],
)
def test_what_the_monitor_refuses_is_said_in_its_own_words(tmp_path: Path, answer: dict[str, Any], words: str) -> None:
    qemu = Qemu(tmp_path, [answer])
    with Monitor(tmp_path) as monitor, pytest.raises(LabError, match=words):
        monitor.ask("device_del", id="x")
    qemu.close()


def test_a_guest_that_is_gone_is_said_in_one_sentence_and_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(LabError, match="monitor does not answer"), Monitor(tmp_path):
        pass
    qemu = Qemu(tmp_path, greets=False)
    with pytest.raises(LabError, match="hung up"):
        Monitor(tmp_path).__enter__()
    qemu.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# ------------------------------------------------------------------------------------------------------- notes


def test_a_note_of_another_start_of_this_machine_or_of_a_dead_process_is_no_running_guest(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert vm.Running.recalled(folder) is None
    folder.guest.mkdir()
    own = Process.of(os.getpid())
    assert own is not None
    note = {"pid": own.pid, "started": own.started, "boot": vm.boot_id(), "accelerator": "tcg", "rights": "x"}
    path = folder.guest / "state.json"
    path.write_text(json.dumps(note), encoding="utf-8")
    assert vm.Running.recalled(folder) == vm.Running(own, "tcg", "x")
    for wrong in ({"boot": "another"}, {"started": own.started + 1}, {"pid": "?"}):
        path.write_text(json.dumps(note | wrong), encoding="utf-8")
        assert vm.Running.recalled(folder) is None


@pytest.mark.parametrize("text", ["", "1A", "-A", "A B", "A,drive=x", "A/../B", "A" * 20, "Ổ"])
def test_a_serial_number_that_could_mean_more_to_qemu_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="a serial number is a letter"):
        serial_number(text)


# ----------------------------------------------------------------------------------------------------- archive

_NAMES = st.text("abcdefghijkl.-_", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))


@given(files=st.dictionaries(_NAMES, st.binary(max_size=40), max_size=6))
def test_what_goes_into_an_archive_comes_out_of_it(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    place = tmp_path_factory.mktemp("archive")
    (place / "in" / "deep").mkdir(parents=True)
    for name, data in files.items():
        (place / "in" / "deep" / name).write_bytes(data)
    (place / "in" / "link").symlink_to("deep/somewhere")
    packed = guest.archive(place / "in")
    assert len(packed) % 4 == 0, "the kernel looks for the next head at a border of four bytes"
    assert read_newc(packed) == {
        "deep": b"",
        "link": b"deep/somewhere",
        **{f"deep/{name}": data for name, data in files.items()},
    }


def read_newc(packed: bytes) -> dict[str, bytes]:
    """A reader of the form that the kernel's own document describes: name -> data, up to the trailer."""
    found, at = {}, 0
    while True:
        assert packed[at : at + 6] == b"070701"
        figures = [int(packed[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, length = figures[6], figures[11]
        name = packed[at + 110 : at + 110 + length - 1].decode()
        at += 110 + length + -(110 + length) % 4
        if name == "TRAILER!!!":
            return found
        found[name] = packed[at : at + size]
        at += size + -size % 4


def test_a_module_is_loaded_after_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "lib" / "modules" / "6.1"
    modules.mkdir(parents=True)
    needs = "k/virtio_blk.ko.xz: k/virtio.ko.xz k/virtio_ring.ko.xz\nk/virtio_pci.ko.xz: k/virtio_ring.ko.xz\n"
    (modules / "modules.dep").write_text(needs + "k/virtio.ko.xz: k/virtio_ring.ko.xz\n", encoding="ascii")
    monkeypatch.setattr(guest, "run", lambda *words: "")  # depmod, which wrote the table above
    order = [path.name.partition(".")[0] for path in guest._with_dependencies(modules)]
    assert order.index("virtio_ring") < order.index("virtio_pci")
    assert order.index("virtio_ring") < order.index("virtio") < order.index("virtio_blk")
    assert len(order) == len(set(order))


def test_the_image_is_built_anew_when_what_goes_into_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = guest._recipe("debian-x", "linux-image-6.1")
    assert guest._recipe("debian-x", "linux-image-6.1") == first
    assert len({first, guest._recipe("debian-y", "linux-image-6.1"), guest._recipe("debian-x", "linux-image-6.2")}) == 3
    monkeypatch.setattr(guest, "PACKAGES", (*guest.PACKAGES, "one-more"))
    assert guest._recipe("debian-x", "linux-image-6.1") != first


def test_the_scripts_of_the_image_are_shell() -> None:
    for name in ("image.sh", "initrd-init"):
        assert subprocess.run(["sh", "-n", guest._BOOT / name], check=False).returncode == 0
