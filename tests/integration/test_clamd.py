"""Evidence against a real clamd with a signature of our own: the official database is not needed."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import time
import zlib

import pytest

from controlplane.intake import IntakeError, clamd_scan, examine


def _png(shade: int) -> bytes:
    def chunk(word: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + word + body + struct.pack(">I", zlib.crc32(word + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes([0, shade])))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


CLEAN, MARKED = _png(1), _png(2)


@pytest.fixture(scope="module")
def clamd(tmp_path_factory):
    """The socket of a clamd in a folder of its own that knows one file by its hash and takes at most 1 MB."""
    program = shutil.which("clamd") or shutil.which("clamd", path="/usr/sbin")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("clamd is missing; script/test integration installs it")
        pytest.skip("clamd is not installed; script/test integration installs it")
    folder = tmp_path_factory.mktemp("clamd")
    (folder / "db").mkdir()
    mark = hashlib.md5(MARKED, usedforsecurity=False).hexdigest()
    (folder / "db" / "ours.hdb").write_text(f"{mark}:{len(MARKED)}:Emrctl.Test.Marked\n")
    (folder / "clamd.conf").write_text(
        f"LocalSocket {folder}/s\nDatabaseDirectory {folder}/db\nTemporaryDirectory {folder}\n"
        f"Foreground yes\nStreamMaxLength 1M\nSelfCheck 3600\nMaxThreads 2\n"
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "-c", folder / "clamd.conf"], stdout=log, stderr=log)
    try:
        for _ in range(300):
            if (folder / "s").exists() or server.poll() is not None:
                break
            time.sleep(0.1)
        assert (folder / "s").exists(), (folder / "log").read_text()
        yield folder / "s"
    finally:
        server.terminate()
        server.wait(20)


def test_a_real_clamd_is_asked_and_its_word_is_kept(clamd):
    scan = clamd_scan(clamd)
    found = examine("ảnh.png", CLEAN, scan=scan).scan
    assert found.word == "scanned"
    assert found.engine.startswith("ClamAV ")
    with pytest.raises(IntakeError) as refused:
        examine("ảnh.png", MARKED, scan=scan)
    assert refused.value.code == "infected"
    assert "Emrctl.Test.Marked" in refused.value.words.vi
    # More than clamd takes: that is said, and it is not called scanned.
    large = scan(os.urandom(3 << 20))
    assert (large.word, large.finding) == ("not_scanned", "too_large")
    assert scan(CLEAN).word == "scanned", "clamd goes on"
