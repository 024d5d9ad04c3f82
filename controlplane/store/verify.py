#!/usr/bin/env python3
"""Verify an evidence bundle offline: Python's standard library, and OpenSSL (or the library ``cryptography``).

Usage: python3 verify.py BUNDLE.zip [--fingerprint HEX] [--head HEX]

The same file verifies for `emrctl evidence verify` and travels inside every bundle. Take it from a place you trust:
a verifier that comes with the bundle only proves what its sender wanted it to prove. Exit: 0 holds, 2 usage, 4 broken.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
import zlib
from pathlib import Path
from typing import Any

MANIFEST, KEY, LINKS, OBJECTS = "manifest.dsse.json", "key.pem", "links.jsonl", "objects/"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
GENESIS = "0" * 64
LARGEST_MEMBER = 1 << 30


class BrokenError(Exception):
    """The bundle does not hold; both tongues say where."""

    def __init__(self, vi: str, en: str) -> None:
        super().__init__(en)
        self.vi, self.en = vi, en


def verify(path: str | Path, fingerprint: str | None = None, head: str | None = None) -> dict[str, Any]:
    """Return what was proven as a dict. Raises ``BrokenError`` naming the first thing that does not hold."""
    with open_bundle(path) as bundle:
        infos = bundle.infolist()
        check_container(Path(path), bundle, infos)
        names = [info.filename for info in infos]
        for needed in (MANIFEST, KEY, LINKS):
            if needed not in names:
                raise BrokenError(f"thiếu {needed}", f"{needed} is missing")
        print_of_key = check_signature(bundle.read(MANIFEST), bundle.read(KEY))
        if fingerprint and print_of_key != fingerprint.lower().replace(":", ""):
            raise BrokenError(
                f"khóa ký là {print_of_key}, không phải khóa đã cho", f"signed by {print_of_key}, not by the given key"
            )
        statement = read_statement(bundle.read(MANIFEST))
        check_members(bundle, names, statement)
        links = check_chain(bundle, names)
    if head and not any(link["seal"] == head.lower() for link in links):
        raise BrokenError(
            f"chuỗi không có mắt xích {head}: đã bị cắt hoặc là gói khác",
            f"the chain holds no link {head}: it was cut, or this is another bundle",
        )
    return {
        "links": len(links),
        "head": links[-1]["seal"] if links else GENESIS,
        "members": len(names),
        "key_fingerprint": print_of_key,
        "exported_at": statement["predicate"]["exported_at"],
        "first_at": links[0]["at"] if links else None,
        "last_at": links[-1]["at"] if links else None,
    }


def open_bundle(path: str | Path) -> zipfile.ZipFile:
    """The ZIP, or ``BrokenError`` in words."""
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise BrokenError(f"không có tệp {path}", f"there is no file {path}") from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise BrokenError(f"tệp không phải ZIP lành lặn: {error}", f"not a sound ZIP file: {error}") from None


def check_container(path: Path, bundle: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> None:
    """Every byte that is not content must be what a plain, stored ZIP of these members has; so no flip hides there."""
    for info in infos:
        if info.file_size > LARGEST_MEMBER:
            raise BrokenError(f"{info.filename}: quá lớn", f"{info.filename}: too large")
    with path.open("rb") as file:
        directory, offset = b"", 0
        for info in infos:
            data = read_member(bundle, info)
            name = info.filename.encode("ascii", "replace")
            crc, size = zlib.crc32(data), len(data)
            common = struct.pack("<HHHHHLLLHH", 20, 0, 0, 0, 33, crc, size, size, len(name), 0)
            expected = b"PK\x03\x04" + common + name
            file.seek(offset)
            compare(file.read(len(expected)), expected, offset, info.filename)
            tail = struct.pack("<HHHLL", 0, 0, 0, 0o100644 << 16, offset)
            directory += b"PK\x01\x02" + struct.pack("<BB", 20, 3) + common + tail + name
            offset += len(expected) + size
        file.seek(offset)
        end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, len(infos), len(infos), len(directory), offset, 0)
        compare(file.read(), directory + end, offset, "(ZIP directory)")


def compare(found: bytes, expected: bytes, offset: int, name: str) -> None:
    """Name the first byte that differs."""
    if found != expected:
        pairs = enumerate(zip(found, expected))  # noqa: B905  # Python 3.8 knows no strict
        at = next((i for i, (a, b) in pairs if a != b), min(len(found), len(expected)))
        raise BrokenError(
            f"{name}: vỏ tệp ZIP bị sửa ở byte {offset + at}",
            f"{name}: the ZIP around it was changed at byte {offset + at}",
        )


def read_member(bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes, or ``BrokenError`` naming it."""
    try:
        return bundle.read(info)
    except Exception as error:  # zipfile raises half a dozen kinds for a damaged member
        raise BrokenError(
            f"{info.filename}: không đọc được ({error})", f"{info.filename}: cannot be read ({error})"
        ) from None


def check_signature(envelope_bytes: bytes, key_pem: bytes) -> str:
    """The key's fingerprint (SHA-256 of its DER form) if the manifest's signature holds."""
    try:
        envelope = json.loads(envelope_bytes)
        payload = base64.b64decode(envelope["payload"], validate=True)
        kind = envelope["payloadType"]
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        keyid = envelope["signatures"][0]["keyid"]
        lines = key_pem.decode("ascii").strip().splitlines()
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BrokenError(f"{MANIFEST} hoặc {KEY} hỏng: {error}", f"{MANIFEST} or {KEY} is damaged: {error}") from None
    strict = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": hashlib.sha256(der).hexdigest(), "sig": base64.b64encode(signature).decode()}],
    }
    if canonical(strict) + b"\n" != envelope_bytes:
        raise BrokenError(f"{MANIFEST} đã bị sửa", f"{MANIFEST} was changed")
    if pem(der) != key_pem:
        raise BrokenError(f"{KEY} đã bị sửa", f"{KEY} was changed")
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    if not signature_holds(key_pem, signature, message):
        raise BrokenError(f"chữ ký của {MANIFEST} không đúng", f"the signature of {MANIFEST} does not hold")
    return str(keyid)


def signature_holds(key_pem: bytes, signature: bytes, message: bytes) -> bool:
    """Ed25519 through the library ``cryptography`` where it is there, otherwise through the program ``openssl``."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        return signature_holds_by_openssl(key_pem, signature, message)
    try:
        key = load_pem_public_key(key_pem)
        if not isinstance(key, Ed25519PublicKey):
            return False
        key.verify(signature, message)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def signature_holds_by_openssl(key_pem: bytes, signature: bytes, message: bytes) -> bool:
    """The same through OpenSSL 3's ``pkeyutl``."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise BrokenError(
            "cần chương trình openssl hoặc thư viện Python cryptography để kiểm tra chữ ký",
            "openssl, or the Python library cryptography, is needed to verify the signature",
        )
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, data in (("key", key_pem), ("sig", signature), ("message", message)):
            files[name] = Path(folder) / name
            files[name].write_bytes(data)
        argv = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", str(files["key"]), "-rawin"]
        argv += ["-in", str(files["message"]), "-sigfile", str(files["sig"])]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def pem(der: bytes) -> bytes:
    """A public key's PEM form."""
    text = base64.b64encode(der).decode()
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""]).encode()


def read_statement(envelope_bytes: bytes) -> Any:
    """The in-toto statement that was signed."""
    return json.loads(base64.b64decode(json.loads(envelope_bytes)["payload"]))


def check_members(bundle: zipfile.ZipFile, names: list[str], statement: Any) -> None:
    """Every member is the one that was signed for; none is missing and none was added."""
    signed = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    if len(names) != len(set(names)):
        raise BrokenError("có tệp trùng tên", "two members have the same name")
    for name in names:
        if name == MANIFEST:
            continue
        if name not in signed:
            raise BrokenError(f"{name}: tệp thêm vào, không có trong bản kê", f"{name}: added, not in the manifest")
        found = hashlib.sha256(bundle.read(name)).hexdigest()
        if found != signed[name]:
            raise BrokenError(f"{name}: nội dung đã bị sửa", f"{name}: its content was changed")
        if name.startswith(OBJECTS) and name[len(OBJECTS) :] != found:
            raise BrokenError(f"{name}: tên không phải mã băm của nội dung", f"{name}: not named by its SHA-256")
    for name in signed:
        if name not in names:
            raise BrokenError(f"{name}: bị thiếu", f"{name}: missing")


def check_chain(bundle: zipfile.ZipFile, names: list[str]) -> list[Any]:
    """Every link holds on to the one before it, and its body is in the bundle."""
    links = [json.loads(line) for line in bundle.read(LINKS).decode().splitlines()]
    prev = GENESIS
    for number, link in enumerate(links, start=1):
        seal = hashlib.sha256(
            prev.encode() + canonical([link["seq"], link["at"], link["kind"], link["digest"]])
        ).hexdigest()
        if link["seq"] != number or link["prev"] != prev or link["seal"] != seal:
            raise BrokenError(f"mắt xích {number} của chuỗi bị đứt", f"link {number} of the chain is broken")
        if OBJECTS + link["digest"] not in names:
            raise BrokenError(f"mắt xích {number}: thiếu nội dung", f"link {number}: its body is missing")
        prev = seal
    return links


def canonical(value: Any) -> bytes:
    """The one byte form of plain JSON values."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return unicodedata.normalize("NFC", text).encode()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--fingerprint", help="SHA-256 of the signing key, as printed in the weekly report")
    parser.add_argument("--head", help="a seal of the chain, as printed in a weekly report")
    options = parser.parse_args()
    try:
        proven = verify(options.bundle, options.fingerprint, options.head)
    except BrokenError as broken:
        print(f"HỎNG: {broken.vi}\nBROKEN: {broken.en}")
        return 4
    except OSError as error:
        print(f"HỎNG: {error}\nBROKEN: {error}")
        return 4
    span = f"{proven['first_at']} - {proven['last_at']}"
    print(f"NGUYÊN VẸN: {proven['links']} mắt xích, {proven['members']} tệp, {span}")
    print(f"INTACT: {proven['links']} links, {proven['members']} files, {span}")
    print(f"head: {proven['head']}\nkey fingerprint (SHA-256): {proven['key_fingerprint']}")
    if not options.fingerprint:
        print("Đối chiếu dấu khóa trên với dấu in trong báo cáo. Compare the fingerprint with a printed one.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
