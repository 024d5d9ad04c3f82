"""No secret and no patient leaves its place: canaries are planted and searched for in everything the house writes."""

import logging
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from controlplane.bootstrap import init_store
from controlplane.reports.weeks import IsoWeek
from controlplane.settings import Settings
from tests.conftest import ROOT, Clock

SECRET = "C4N4RY-community-7f3a"
KEY_TEXT = "C4N4RY-private-key-material"
PATIENT = "NGƯỜI BỆNH C4N4RY 079099123456"


@pytest.fixture
def planted(tmp_path, caplog):
    """A store with a canary community, key and patient file, after a round, a report and an export."""
    caplog.set_level(logging.DEBUG)
    data = tmp_path / "data"
    overlay = tmp_path / "overlay.yaml"
    key = tmp_path / "reader"
    key.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{KEY_TEXT}\n-----END OPENSSH PRIVATE KEY-----\n")
    key.chmod(0o600)
    overlay.write_text(
        f"""all:
  hosts:
    sv-01: {{ansible_host: 127.0.0.1, ansible_port: 9, ansible_user: emrread, ansible_ssh_private_key_file: {key}}}
    prn-01: {{ansible_host: 127.0.0.2, emr_transports: [snmp], emr_snmp: {{version: "2c", secret_file: printers}}}}
"""
    )
    plane = init_store(
        Settings(home=ROOT, data_dir=data, inventory=[overlay], look_deadline_seconds=8, round_every_minutes=0), Clock()
    )
    secret = plane.settings.secrets_dir / "printers"
    secret.write_text(f"community = {SECRET}\n")
    secret.chmod(0o600)
    record = Path("/srv/emr-canary")
    record.mkdir(exist_ok=True)
    (record / "record.txt").write_text(PATIENT)
    try:
        plane.make_round()
    finally:
        (record / "record.txt").unlink()
        record.rmdir()
    plane.weekly_report(IsoWeek.parse("2026-W48"))
    plane.export_evidence(tmp_path / "bundle.zip")
    return plane, tmp_path, caplog


def test_no_canary_is_in_record_index_report_bundle_or_log(planted):
    plane, folder, caplog = planted
    for name in plane.archive.vault.names():
        data = plane.archive.vault.get(name)
        assert not clean_of(data), name
        if data.startswith(b"PK"):
            (folder / "inner.zip").write_bytes(data)
            assert not in_zip(folder / "inner.zip"), "the report holds a canary"
    assert not in_zip(folder / "bundle.zip")
    for path in plane.settings.data_dir.rglob("*"):
        if path.is_file() and path.parent != plane.settings.secrets_dir:
            assert not clean_of(path.read_bytes()), path.name
    assert not clean_of(caplog.text.encode())


def clean_of(data: bytes) -> list[str]:
    return [word for word in (SECRET, KEY_TEXT, PATIENT, "C4N4RY") if word.encode() in data]


def in_zip(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as opened:
        return [info.filename for info in opened.infolist() if clean_of(opened.read(info))]


def test_the_canary_search_finds_a_canary(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as made:
        made.writestr("a.txt", f"x {SECRET} y")
    assert in_zip(tmp_path / "z.zip") == ["a.txt"]


def test_a_secret_in_the_inventory_is_refused(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(f"all:\n  hosts:\n    sv-01:\n      ansible_password: {SECRET}\n")
    argv = [sys.executable, "-m", "controlplane", "--data-dir", str(tmp_path / "data"), "--inventory", str(overlay)]
    subprocess.run([*argv, "init"], check=True, capture_output=True)
    refused = subprocess.run([*argv, "inventory"], check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert SECRET not in refused.stdout + refused.stderr
    assert "overlay.yaml:4" in refused.stderr
