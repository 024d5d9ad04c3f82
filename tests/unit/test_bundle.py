"""The evidence bundle: whole, signed, and one flipped bit anywhere is named. Real keys, real ZIP, real OpenSSL."""

import csv
import io
import json
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from controlplane.domain.catalog import catalog_body
from controlplane.domain.chain import canonical
from controlplane.store import verify
from controlplane.store.bundle import BundleError, SigningKey, SigningKeyError, export
from tests.conftest import NOON, a_check, a_criterion, a_framework
from tests.unit.test_archive import CATALOG, walk

HOSPITAL = ("Bệnh viện", "The hospital")


@pytest.fixture
def key(tmp_path):
    return SigningKey.load_or_make(tmp_path / "keys")


@pytest.fixture
def bundle(archive, clock, key, tmp_path):
    law = {"f.yaml": a_framework(a_criterion())}
    body = catalog_body({"c.yaml": {"checks": [a_check()]}}, law, None, {("law", "a"): ("2", "Tổ hạ tầng")})
    assert archive.vault.put(canonical(body)) == CATALOG.digest
    walk(archive, clock, {"disk.used_percent": 91, "os.release": "Debian 12"})
    out = tmp_path / "bundle.zip"
    export(archive, key, out, NOON, HOSPITAL)
    return out


def test_a_fresh_bundle_is_intact(bundle, key, archive):
    proven = verify.verify(bundle, key.fingerprint)
    assert proven["links"] == 2
    assert [link.kind for link in archive.chain()] == ["round_opened", "round", "export"]


def test_raw_bytes_are_in_the_bundle_under_their_hash(bundle):
    with zipfile.ZipFile(bundle) as opened:
        contents = {name: opened.read(name) for name in opened.namelist()}
    assert b"91" in contents.values()
    assert all(name.isascii() for name in contents)


def test_how_sure_each_criterion_is_stands_in_a_table_beside_its_word(bundle):
    with zipfile.ZipFile(bundle) as opened:
        rows = list(csv.DictReader(io.StringIO(opened.read("criteria.csv").decode("utf-8-sig"))))
        assert "second_hand" in opened.read("README.txt").decode()
    assert [(r["criterion"], r["standing"], r["scored"], r["verdict"]) for r in rows] == [
        (c.id, c.standing, "yes", "not_met") for c in CATALOG.criteria.values()
    ]


def test_every_flipped_bit_is_found_and_named(bundle, tmp_path):
    data = bundle.read_bytes()
    rng = random.Random(20261123)  # noqa: S311  # the same spots every time
    spots = {0, 4, 10, 14, 26, len(data) - 1, len(data) - 12, *(rng.randrange(len(data)) for _ in range(250))}
    broken = tmp_path / "broken.zip"
    for spot in sorted(spots):
        flipped = bytearray(data)
        flipped[spot] ^= 1 << rng.randrange(8)
        broken.write_bytes(flipped)
        with pytest.raises(verify.BrokenError) as found:
            verify.verify(broken)
        assert found.value.vi, f"byte {spot} is not named"
        assert found.value.en, f"byte {spot} is not named"


def test_a_flipped_bit_in_a_member_names_that_member(bundle, tmp_path):
    data = bytearray(bundle.read_bytes())
    at = data.index(b"Debian 12")
    data[at] ^= 1
    broken = tmp_path / "broken.zip"
    broken.write_bytes(data)
    with pytest.raises(verify.BrokenError, match=r"objects/[0-9a-f]{64}"):
        verify.verify(broken)


def rezip(bundle, out, change):
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(out, "w") as target:
        members = {info.filename: source.read(info) for info in source.infolist()}
        change(members)
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            info.create_system = 3
            target.writestr(info, data)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.update({"objects/extra": b"x"}), "added, not in the manifest"),
        (lambda m: m.pop("README.txt"), "README.txt: missing"),
        (lambda m: m.update({"verify.py": b"print('INTACT')"}), "verify.py: its content was changed"),
        (lambda m: m.pop("links.jsonl"), "links.jsonl is missing"),
        (lambda m: m.update({"links.jsonl": m["links.jsonl"][:-300]}), "links.jsonl: its content was changed"),
    ],
)
def test_a_bundle_packed_anew_is_not_believed(bundle, tmp_path, change, sentence):
    out = tmp_path / "anew.zip"
    rezip(bundle, out, change)
    with pytest.raises(verify.BrokenError, match=sentence):
        verify.verify(out)


def test_a_bundle_signed_by_another_key_is_found_by_the_fingerprint(bundle, archive, tmp_path, key):
    other = SigningKey.load_or_make(tmp_path / "other")
    forged = tmp_path / "forged.zip"
    export(archive, other, forged, NOON, HOSPITAL)
    assert verify.verify(forged)["key_fingerprint"] == other.fingerprint
    with pytest.raises(verify.BrokenError, match="not by the given key"):
        verify.verify(forged, key.fingerprint)


def test_a_cut_chain_is_found_by_a_printed_head(bundle, archive, clock, key, tmp_path):
    head = archive.head().seal
    with pytest.raises(verify.BrokenError, match="the chain holds no link"):
        verify.verify(bundle, head=head)
    later = tmp_path / "later.zip"
    export(archive, key, later, NOON, HOSPITAL)
    assert verify.verify(later, head=head)["links"] == 3


def test_the_verifier_inside_the_bundle_runs_alone_with_python_and_openssl(bundle, tmp_path):
    with zipfile.ZipFile(bundle) as opened:
        (tmp_path / "alone").mkdir()
        opened.extract("verify.py", tmp_path / "alone")
    # -I -S: no site-packages, so that only the standard library and the program openssl are left.
    argv = [sys.executable, "-I", "-S", str(tmp_path / "alone" / "verify.py"), str(bundle)]
    assert shutil.which("openssl")
    good = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "NGUYÊN VẸN" in good.stdout
    data = bytearray(bundle.read_bytes())
    data[data.index(b'"sig"') + 9] ^= 1
    (tmp_path / "bad.zip").write_bytes(data)
    bad = subprocess.run([*argv[:-1], str(tmp_path / "bad.zip")], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stderr) == (4, "")


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all" * 99, None])
def test_what_is_no_bundle_is_refused_in_words(tmp_path, content):
    path = tmp_path / "x.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(verify.BrokenError):
        verify.verify(path)


def test_nothing_to_export_and_a_missing_body_are_said(archive, clock, key, tmp_path):
    with pytest.raises(BundleError, match="make a round first"):
        export(archive, key, tmp_path / "b.zip", NOON, HOSPITAL)
    walk(archive, clock, {"disk.used_percent": 91})
    archive.vault._path(list(archive.chain())[1].digest).unlink()
    with pytest.raises(BundleError, match="link 2"):
        export(archive, key, tmp_path / "b.zip", NOON, HOSPITAL)
    assert not (tmp_path / "b.zip").exists()


def test_a_key_that_others_may_read_or_that_is_damaged_is_refused(tmp_path):
    folder = tmp_path / "keys"
    SigningKey.load_or_make(folder)
    path = folder / "signing.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(SigningKeyError, match="chmod 600"):
        SigningKey.load(folder)
    path.chmod(0o600)
    path.write_text("damaged")
    with pytest.raises(SigningKeyError, match="cannot be read"):
        SigningKey.load_or_make(folder)
    with pytest.raises(SigningKeyError, match="emrctl init"):
        SigningKey.load(tmp_path / "nowhere")


def test_the_manifest_is_an_in_toto_statement_in_a_dsse_envelope(bundle):
    with zipfile.ZipFile(bundle) as opened:
        envelope = json.loads(opened.read(verify.MANIFEST))
    statement = verify.read_statement(json.dumps(envelope).encode())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    with zipfile.ZipFile(bundle) as opened:  # the verifier that travels is the one that is tested
        assert opened.read("verify.py") == Path(verify.__file__).read_bytes()
