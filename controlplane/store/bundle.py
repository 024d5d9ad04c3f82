"""The evidence bundle: chain, bodies, raw bytes and a signed manifest in one ZIP. It leaves nothing out silently.

The manifest is an in-toto Statement in a DSSE envelope, signed with Ed25519 through securesystemslib. The ZIP is plain
(stored, no times), so that every byte of it is determined by its contents and the verifier can check the container too.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from controlplane.domain.catalog import catalog_from
from controlplane.domain.chain import Link, canonical, digest, stamp
from controlplane.store import verify
from controlplane.store.archive import Archive
from controlplane.store.index import scorecard_from
from controlplane.store.vault import VaultError

MOST_MEMBERS = 65_000  # a plain ZIP counts its members in 16 bits
LARGEST_BUNDLE = (1 << 32) - (1 << 24)  # and its bytes in 32

README = """GÓI MINH CHỨNG / EVIDENCE BUNDLE

{hospital_vi}. Xuất lúc {at}.
{hospital_en}. Exported at {at}.

Kiểm tra, không cần mạng và không cần phần mềm của bệnh viện (Python 3.8 trở lên và openssl):
To verify, offline and without the hospital's software (Python 3.8 or later and openssl):

    python3 verify.py BUNDLE.zip --fingerprint {fingerprint}

links.jsonl    chuỗi mắt xích: mỗi dòng nối với dòng trước bằng mã băm / the chain, each line sealed to the one before
objects/       nội dung, tên tệp là SHA-256 của nội dung (dùng sha256sum) / bodies and raw replies, named by SHA-256
manifest       bản kê mọi tệp, có chữ ký số Ed25519 (DSSE, in-toto) / every file, signed
criteria.csv   mọi tiêu chí ở lượt đo cuối và độ tin cậy của văn bản (cột standing) / every criterion in the last round
  confirmed    đã xác nhận từ văn bản chính thức / confirmed from the official text
  second_hand  theo nguồn thứ cấp: được chấm / second hand: scored
  draft        dự thảo: không quyết định mức nào / decides no level
"""

CRITERIA = "criteria.csv"
COLUMNS = (
    "criterion framework group levels clause title_vi title_en standing confidence source scored verdict proof round"
)


class SigningKeyError(RuntimeError):
    """The signing key is missing, damaged or readable by others; the message says which."""


class SigningKey:
    """The hospital's Ed25519 key for evidence; ``fingerprint`` is the SHA-256 of its public DER form."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        public = private.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.fingerprint = digest(der)
        self._signer = CryptoSigner(private, SSlibKey.from_crypto(public, keyid=self.fingerprint))

    @classmethod
    def load(cls, folder: Path) -> SigningKey:
        """Read ``signing.pem``. Raises ``SigningKeyError``."""
        path = folder / "signing.pem"
        try:
            if path.stat().st_mode & 0o077:
                raise SigningKeyError(f"{path} may be read by others; run: chmod 600 {path}")
            private = load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError:
            raise SigningKeyError(f"{path} is missing; run: emrctl init") from None
        except (ValueError, TypeError, PermissionError) as error:
            raise SigningKeyError(f"{path} cannot be read: {error}") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise SigningKeyError(f"{path} is not an Ed25519 key")
        return cls(private)

    @classmethod
    def load_or_make(cls, folder: Path) -> SigningKey:
        """The same; a key that is not there is made (0600). One that is damaged is never overwritten."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "signing.pem"
        if not path.exists():
            private = Ed25519PrivateKey.generate()
            pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            handle, temporary = tempfile.mkstemp(dir=folder)  # 0600 from the start
            with os.fdopen(handle, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).rename(path)
        return cls.load(folder)

    def envelope(self, statement: Any) -> bytes:
        """A DSSE envelope over the statement, as one canonical line."""
        envelope = Envelope(canonical(statement), verify.PAYLOAD_TYPE, {})
        envelope.sign(self._signer)
        return canonical(envelope.to_dict()) + b"\n"


def signs(envelope: bytes, public_pem: bytes, digest_hex: str) -> bool:
    """Whether an envelope is signed by this key and its statement names this digest."""
    try:
        verify.check_signature(envelope, public_pem)
    except verify.BrokenError:
        return False
    statement = verify.read_statement(envelope)
    return [s["digest"]["sha256"] for s in statement["subject"]] == [digest_hex]


class BundleError(RuntimeError):
    """The bundle cannot be made; the message says why and what to do."""


def export(
    archive: Archive,
    key: SigningKey,
    out: Path,
    at: datetime,
    hospital: tuple[str, str],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the bundle to ``out`` (whole or not at all) and link the export in the chain; return what it holds.

    Raises ``BundleError`` when a body is missing or damaged, or ``out`` cannot be written.
    """
    links = list(archive.chain())
    if not links:
        raise BundleError("there is nothing to export yet: make a round first")
    names = _closure(archive, links)
    if len(names) + 8 > MOST_MEMBERS:
        raise BundleError(f"{len(names)} objects do not fit into one plain ZIP (at most {MOST_MEMBERS})")
    loose = _loose(links, key, at, hospital) | _criteria(archive, links)
    loose[verify.MANIFEST] = key.envelope(_statement(loose, names, links, at))
    size = _write(archive, out, loose, names, progress)
    link = archive.append(
        "export", {"at": stamp(at), "head": links[-1].seal, "manifest": digest(loose[verify.MANIFEST])}, at
    )
    return {
        "path": str(out),
        "bytes": size,
        "links": len(links),
        "objects": len(names),
        "head": links[-1].seal,
        "key_fingerprint": key.fingerprint,
        "export_link": link.seq,
    }


def _loose(links: list[Link], key: SigningKey, at: datetime, hospital: tuple[str, str]) -> dict[str, bytes]:
    """The members that are not objects, but for the manifest over all."""
    readme = README.format(hospital_vi=hospital[0], hospital_en=hospital[1], at=stamp(at), fingerprint=key.fingerprint)
    return {
        "README.txt": readme.encode(),
        verify.KEY: key.public_pem,
        verify.LINKS: b"".join(canonical(link) + b"\n" for link in links),
        "verify.py": Path(verify.__file__).read_bytes(),
    }


def _criteria(archive: Archive, links: list[Link]) -> dict[str, bytes]:
    """What the last round said of every criterion, with the standing of each, as a table that a spreadsheet opens."""
    last = next((archive.body(link) for link in reversed(links) if link.kind == "round"), None)
    if last is None:
        return {}
    try:
        catalog = catalog_from(json.loads(archive.vault.get(last["catalog"])))
        card = scorecard_from(json.loads(archive.vault.get(last["scorecard"])))
    except VaultError as error:
        raise BundleError(f"round {last['id']}: {error}") from None
    said = {score.id: score for score in card.criteria}
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS.split())
    for id_, c in sorted(catalog.criteria.items()):
        law = (id_, c.framework, c.group, " ".join(c.levels), c.clause, c.title.vi, c.title.en)
        sure = (c.standing, c.confidence, c.source, "yes" if c.scored else "no")
        word = (said[id_].verdict, said[id_].proof) if id_ in said else ("", "")
        table.writerow((*law, *sure, *word, last["id"]))
    return {CRITERIA: text.getvalue().encode("utf-8-sig")}


def _statement(loose: dict[str, bytes], names: list[str], links: list[Link], at: datetime) -> dict[str, Any]:
    """The in-toto Statement over every member."""
    subjects = [{"name": name, "digest": {"sha256": digest(data)}} for name, data in loose.items()]
    subjects += [{"name": verify.OBJECTS + name, "digest": {"sha256": name}} for name in names]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": sorted(subjects, key=lambda s: str(s["name"])),
        "predicateType": "urn:emrctl:evidence-bundle:v1",
        "predicate": {"exported_at": stamp(at), "head": links[-1].seal, "links": len(links)},
    }


def _closure(archive: Archive, links: list[Link]) -> list[str]:
    """Every digest that the chain needs: bodies, and what rounds and runs name."""
    names: set[str] = set()
    for link in links:
        try:
            body = archive.body(link)
        except VaultError as error:
            raise BundleError(f"link {link.seq} ({link.kind}): {error}") from None
        names.add(link.digest)
        names.update(_named(body))
        if link.kind == "run":
            names.update(_named(json.loads(archive.vault.get(body["dossier"]))))
    return sorted(name for name in names if name in archive.vault)


def _named(body: Any) -> Iterator[str]:
    """Everything in a body that looks like a digest; the vault knows which of them are."""
    if isinstance(body, str):
        if len(body) == 64 and set(body) <= set("0123456789abcdef"):
            yield body
    elif isinstance(body, dict):
        for value in body.values():
            yield from _named(value)
    elif isinstance(body, list):
        for value in body:
            yield from _named(value)


def _write(
    archive: Archive,
    out: Path,
    loose: dict[str, bytes],
    names: list[str],
    progress: Callable[[int, int], None] | None,
) -> int:
    try:
        handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=".bundle-")
    except OSError as error:
        raise BundleError(f"cannot write beside {out}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as bundle:
            for name, data in loose.items():
                bundle.writestr(_entry(name), data)
            for index, name in enumerate(names, start=1):
                bundle.writestr(_entry(verify.OBJECTS + name), archive.vault.get(name))
                if file.tell() > LARGEST_BUNDLE:
                    raise BundleError("the bundle would be larger than 4 GiB")
                if progress:
                    progress(index, len(names))
        Path(temporary).chmod(0o600)
        Path(temporary).rename(out)
    except (OSError, VaultError) as error:
        raise BundleError(f"the bundle could not be written: {error}") from None
    finally:
        Path(temporary).unlink(missing_ok=True)
    return out.stat().st_size


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o100644 << 16
    info.create_system = 3
    return info
