"""Evidence files: known by their bytes, walked to the end, refused for what they hide, no other exception."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import struct
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import docx
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.intake import IntakeError, Scan, clamd_scan, clean_name, examine

# ------------------------------------------------------------------------------------------- files of our own


def a_pdf(extra: bytes = b"", catalog: bytes = b"", head: bytes = b"%PDF-1.7\n", tail: bytes = b"") -> bytes:
    body = head + b"1 0 obj\n<< /Type /Catalog /Pages 2 0 R " + catalog + b" >>\nendobj\n"
    body += b"2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n"
    body += b"3 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>\nendobj\n" + extra
    at = len(body)
    body += b"xref\n0 1\n0000000000 65535 f \ntrailer\n<< /Size 4 /Root 1 0 R >>\n"
    return body + b"startxref\n%d\n%%%%EOF\n" % at + tail


def a_stream(body: bytes, dictionary: bytes, packed: bool = True) -> bytes:
    packed_body = zlib.compress(body) if packed else body
    return b"9 0 obj\n<< " + dictionary + b" >>\nstream\n" + packed_body + b"\nendstream\nendobj\n"


def chunk(word: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + word + body + struct.pack(">I", zlib.crc32(word + body))


def a_png(width: int = 2, height: int = 2, tail: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\1\2" * 2)) + chunk(b"IEND", b"") + tail


def a_jpeg(width: int = 4, height: int = 4, tail: bytes = b"") -> bytes:
    """The frame of a JPEG: its segments are real, its picture is not meant to be seen."""
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda" + struct.pack(">H", 8) + b"\x01\x01\x00\x00\x3f\x00" + b"\x12\xff\x00\x34\xff\xd0\x56"
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", 7) + b"JFIF\0" + frame + scan + b"\xff\xd9" + tail


def a_webp(width: int = 3, height: int = 2, tail: bytes = b"") -> bytes:
    extended = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"VP8X" + struct.pack("<I", 10) + extended + b"VP8L" + struct.pack("<I", 5) + b"\x2f\0\0\0\0\0"
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks + tail


def a_docx() -> bytes:
    out, document = io.BytesIO(), docx.Document()
    document.add_heading("Biên bản nghiệm thu phòng máy chủ", 1)
    document.add_table(2, 2)
    document.save(out)
    return out.getvalue()


def an_xlsx() -> bytes:
    out, book = io.BytesIO(), openpyxl.Workbook()
    book.worksheets[0]["A1"] = "=SUM(B1:B9)"
    book.worksheets[0]["A2"].hyperlink = "https://example.org/"
    book.save(out)
    return out.getvalue()


def repacked(data: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.namelist():
            target.writestr(member, change(source.read(member)) if member == name else source.read(member))
        if name not in source.namelist():
            target.writestr(name, change(b""))
    return out.getvalue()


GOOD = {
    "a.pdf": a_pdf(),
    "a.docx": a_docx(),
    "a.xlsx": an_xlsx(),
    "a.png": a_png(),
    "a.jpg": a_jpeg(),
    "a.webp": a_webp(),
}
KINDS = {"a.jpg": "jpeg"}


# --------------------------------------------------------------------------------------------------- let in


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_good_file_is_known_by_its_bytes(name):
    found = examine(name, GOOD[name])
    assert found.kind == KINDS.get(name, name.partition(".")[2])
    assert (found.bytes, found.sha256) == (len(GOOD[name]), hashlib.sha256(GOOD[name]).hexdigest())
    assert found.scan == Scan("not_scanned", finding="no_scanner")
    assert found.notes == ()


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_name_that_says_another_kind_is_refused(name):
    others = {".pdf", ".docx", ".xlsx", ".png", ".jpg", ".webp", ".exe", ".xlsm"} - {name[1:]}
    for other in others:
        with pytest.raises(IntakeError) as refused:
            examine("a" + other, GOOD[name])
        assert refused.value.code == "ending"
    examine("A" + name[1:].upper(), GOOD[name])


@pytest.mark.parametrize("name", ["a.docx", "a.xlsx", "a.png", "a.pdf", "a.webp", "a.jpg"])
def test_a_file_cut_short_is_refused(name):
    data = GOOD[name]
    for length in {len(data) - 1 - len(data) // 50, len(data) // 2, 12}:
        with pytest.raises(IntakeError):
            examine(name, data[:length])


def test_a_pdf_that_opens_at_a_page_and_packs_its_objects_is_let_in():
    opening = b"/OpenAction [3 0 R /XYZ null null 0] /Lang (vi-VN)"
    packed = a_stream(b"10 0 11 20 << /A 1 >> << /Kind /Page >>", b"/Type /ObjStm /N 2 /First 10 /Filter /FlateDecode")
    examine("a.pdf", a_pdf(packed, opening))
    loose = a_stream(b"10 0 << /A 1 >>", b"/Type /ObjStm /N 1 /First 5", packed=False)
    examine("a.pdf", a_pdf(loose))
    picture = a_stream(os.urandom(200_000), b"/Subtype /Image /Filter /DCTDecode", packed=False)
    examine("a.pdf", a_pdf(picture))


def test_a_preview_behind_a_photograph_is_noted():
    assert examine("a.jpg", a_jpeg(tail=a_jpeg())).notes == ("bytes_after_end",)
    assert examine("a.jpg", a_jpeg(tail=b"\0" * 16)).notes == ()


# -------------------------------------------------------------------------------------------------- refused

RELS = "word/_rels/document.xml.rels"
OUTSIDE = b'<Relationship Id="z" TargetMode="External" Type="http://x/%s" Target="%s"/></Relationships>'


def relation(kind: bytes, target: bytes) -> bytes:
    return repacked(a_docx(), RELS, lambda b: b.replace(b"</Relationships>", OUTSIDE % (kind, target)))


def in_word(xml: bytes) -> bytes:
    return repacked(a_docx(), "word/document.xml", lambda b: b.replace(b"<w:body>", b"<w:body>" + xml, 1))


SPLIT_DDE = b"".join(
    b"<w:p><w:r><w:instrText>%s</w:instrText></w:r></w:p>" % part for part in (b"DDE", b"AUTO c:\\x cmd")
)
OBJECTS = b"/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode"
SCRIPT = b"7 0 << /S /JavaScript /JS (app.alert(1)) >>"
BAD = {
    "empty": (b"", "a.pdf", "empty"),
    "text": (b"hello", "a.pdf", "kind"),
    "executable": (b"MZ\x90\x00" + b"\0" * 200, "a.pdf", "kind"),
    "html": (b"<html><script>1</script></html>", "a.pdf", "kind"),
    "large": (b"%PDF-" + b"\0" * (20 << 20), "a.pdf", "size"),
    "pdf: head": (a_pdf(head=b"%PDF-x\n"), "a.pdf", "broken"),
    "pdf: no end": (b"%PDF-1.4\nstartxref\n1\n", "a.pdf", "broken"),
    "pdf: zip behind": (a_pdf(tail=a_docx()), "a.pdf", "surplus"),
    "pdf: html behind": (a_pdf(tail=b"<html>"), "a.pdf", "surplus"),
    "pdf: zip with a pdf's end": (a_pdf(tail=a_docx() + b"\n%%EOF\n"), "a.pdf", "surplus"),
    "pdf: encrypted": (a_pdf().replace(b"/Root", b"/Encrypt 8 0 R /Root"), "a.pdf", "encrypted"),
    "pdf: script": (a_pdf(b"7 0 obj\n<< /S /JavaScript /JS (x) >>\nendobj\n"), "a.pdf", "active"),
    "pdf: script, escaped": (a_pdf(b"7 0 obj\n<< /S /J#61vaScr#69pt >>\nendobj\n"), "a.pdf", "active"),
    "pdf: script, packed": (a_pdf(a_stream(SCRIPT, OBJECTS)), "a.pdf", "active"),
    "pdf: script, escaped type": (a_pdf(a_stream(SCRIPT, OBJECTS.replace(b"ObjStm", b"Obj#53tm"))), "a.pdf", "active"),
    "pdf: script, hidden type": (a_pdf(a_stream(SCRIPT, b"/X (obj) /Filter /FlateDecode")), "a.pdf", "active"),
    "pdf: script, loose": (a_pdf(a_stream(SCRIPT, b"/Type /ObjStm /N 1 /First 4", False)), "a.pdf", "active"),
    "pdf: unusual packing": (a_pdf(a_stream(b"41>", b"/Type /ObjStm /Filter /LZWDecode", False)), "a.pdf", "hidden"),
    "pdf: packing elsewhere": (a_pdf(a_stream(SCRIPT, b"/Type /ObjStm /Filter 8 0 R")), "a.pdf", "hidden"),
    "pdf: many streams": (a_pdf(b"stream\n" * 50_001), "a.pdf", "hidden"),
    "pdf: endless dictionaries": (a_pdf((b"/A" * 180 + b"stream\n") * 10_000), "a.pdf", "hidden"),
    "pdf: damaged packing": (a_pdf(a_stream(b"xxx", OBJECTS, False)), "a.pdf", "hidden"),
    "pdf: bomb": (a_pdf(a_stream(b"7 0 " + b" " * (65 << 20), OBJECTS)), "a.pdf", "bomb"),
    "pdf: many small bombs": (a_pdf(a_stream(b"7 0 " + b" " * (9 << 20), OBJECTS) * 8), "a.pdf", "bomb"),
    "pdf: opens an action": (a_pdf(catalog=b"/OpenAction 7 0 R"), "a.pdf", "active"),
    "pdf: opens an action inside": (a_pdf(catalog=b"/OpenAction << /S /URI >>"), "a.pdf", "active"),
    "pdf: starts a program": (a_pdf(catalog=b"/AA << /O << /S /Launch /F (cmd) >> >>"), "a.pdf", "active"),
    "pdf: file inside": (a_pdf(catalog=b"/Names << /EmbeddedFiles 7 0 R >>"), "a.pdf", "active"),
    "pdf: form program": (a_pdf(catalog=b"/AcroForm << /XFA 7 0 R >>"), "a.pdf", "active"),
    "docx: macro": (repacked(a_docx(), "word/vbaProject.bin", lambda _: b"x"), "a.docx", "macro"),
    "docx: ole": (repacked(a_docx(), "word/embeddings/oleObject1.bin", lambda _: b"x"), "a.docx", "embedded"),
    "docx: path": (repacked(a_docx(), "../x", lambda _: b"x"), "a.docx", "path"),
    "docx: absolute": (repacked(a_docx(), "/etc/x", lambda _: b"x"), "a.docx", "path"),
    "docx: backslash": (repacked(a_docx(), "word\\..\\x", lambda _: b"x"), "a.docx", "path"),
    "docx: twice": (repacked(a_docx(), "word/Document.xml", lambda _: b"<a/>"), "a.docx", "twice"),
    "docx: dtd": (repacked(a_docx(), "word/document.xml", lambda b: b'<!DOCTYPE a SYSTEM "x"><a/>'), "a.docx", "dtd"),
    "docx: dtd in utf-16": (
        repacked(a_docx(), "word/document.xml", lambda _: '<!DOCTYPE a SYSTEM "x"><a/>'.encode("utf-16")),
        "a.docx",
        "dtd",
    ),
    "docx: no xml": (repacked(a_docx(), "word/document.xml", lambda b: b"<a>"), "a.docx", "xml"),
    "docx: deep": (repacked(a_docx(), "word/document.xml", lambda b: b"<a>" * 999 + b"</a>" * 999), "a.docx", "xml"),
    "docx: too many elements": (
        repacked(a_docx(), "word/document.xml", lambda b: b"<a>" + b"<b/>" * 2_000_001 + b"</a>"), "a.docx", "xml",
    ),
    "docx: bomb": (repacked(a_docx(), "word/media/a.png", lambda _: b"\0" * (201 << 20)), "a.docx", "bomb"),
    "docx: template from outside": (relation(b"attachedTemplate", b"http://x/a.dotm"), "a.docx", "outside"),
    "docx: picture from outside": (relation(b"image", b"http://x/a.png"), "a.docx", "outside"),
    "docx: link to a file": (relation(b"hyperlink", b"file:///c:/x"), "a.docx", "outside"),
    "docx: dde": (in_word(b'<w:p><w:fldSimple w:instr="DDEAUTO c:\\x cmd"/></w:p>'), "a.docx", "field"),
    "docx: dde in pieces": (in_word(SPLIT_DDE), "a.docx", "field"),
    "docx: bytes before": (b"PK\x03\x04" + a_docx(), "a.docx", "surplus"),
    "docx: bytes behind": (a_docx() + b"MZ", "a.docx", "surplus"),
    "docx: no office package": (repacked(a_docx(), "[Content_Types].xml", lambda b: b"<Types/>"), "a.docx", "kind"),
    "doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 900, "a.docx", "ole"),
    "xlsx: outside": (repacked(an_xlsx(), "xl/externalLinks/a.xml", lambda _: b"<a/>"), "a.xlsx", "outside"),
    "png: behind": (a_png(tail=b"PK\x03\x04"), "a.png", "surplus"),
    "png: pixels": (a_png(20_000, 20_000), "a.png", "pixels"),
    "png: none": (a_png(0, 1), "a.png", "pixels_none"),
    "png: one bit": (a_png().replace(b"IDAT", b"IDAU"), "a.png", "broken"),
    "jpeg: zip behind": (a_jpeg(tail=a_docx()), "a.jpg", "surplus"),
    "jpeg: page behind": (a_jpeg(tail=b"<SCRIPT>"), "a.jpg", "surplus"),
    "jpeg: pixels": (a_jpeg(60_000, 60_000), "a.jpg", "pixels"),
    "jpeg: no frame": (b"\xff\xd8\xff\xd9" + b"\0" * 9, "a.jpg", "broken"),
    "webp: behind": (a_webp(tail=b"xx"), "a.webp", "surplus"),
    "webp: pixels": (a_webp(1 << 14, 1 << 14), "a.webp", "pixels"),
    "webp: no picture": (b"RIFF" + struct.pack("<I", 12) + b"WEBPVP8X\0\0\0\0", "a.webp", "broken"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_could_do_harm_or_is_broken_is_refused_with_a_sentence(case):
    data, name, code = BAD[case]
    with pytest.raises(IntakeError) as refused:
        examine(name, data)
    assert refused.value.code == code
    assert refused.value.words.vi
    assert refused.value.words.en not in ("", refused.value.words.vi)


def test_a_hidden_gap_between_members_is_refused():
    data = a_docx()
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        second = sorted(m.header_offset for m in package.infolist())[1]
        members, start = len(package.infolist()), package.start_dir
    hidden = b"MZ" + b"\x90" * 98
    moved = bytearray(data[:second] + hidden + data[second:])
    at = start + len(hidden)
    for _ in range(members):
        names, extra, remark = struct.unpack("<HHH", moved[at + 28 : at + 34])
        offset = struct.unpack("<I", moved[at + 42 : at + 46])[0]
        if offset >= second:
            moved[at + 42 : at + 46] = struct.pack("<I", offset + len(hidden))
        at += 46 + names + extra + remark
    moved[at + 16 : at + 20] = struct.pack("<I", start + len(hidden))
    with zipfile.ZipFile(io.BytesIO(moved)) as package:
        assert package.testzip() is None, "a zip program sees nothing wrong"
    with pytest.raises(IntakeError) as refused:
        examine("a.docx", bytes(moved))
    assert refused.value.code == "surplus"


def test_the_limit_is_a_setting():
    examine("a.png", a_png(), most_bytes=len(a_png()))
    with pytest.raises(IntakeError, match="size"):
        examine("a.png", a_png(), most_bytes=len(a_png()) - 1)


# ---------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("quyết định.pdf", "quyết định.pdf"),
        (unicodedata.normalize("NFD", "Quyết định.pdf"), "Quyết định.pdf"),
        ("C:\\Users\\a\\Biên bản.PDF", "Biên bản.PDF"),
        ("../../etc/x.pdf", "x.pdf"),
        ("a\u202efdp.pdf", "afdp.pdf"),
        ("a\r\nSet-Cookie: b.pdf", "a Set-Cookie_ b.pdf"),
        ("  .. a  b .pdf", "a b.pdf"),
        ('<a>"|?*.pdf', "_a_____.pdf"),
        ("a" * 300 + ".docx", "a" * 115 + ".docx"),
        ("a.tar.pdf", "a.tar.pdf"),
    ],
)
def test_names_are_cleaned(given_, kept):
    assert clean_name(given_) == kept


@pytest.mark.parametrize("given_", ["", ".pdf", "pdf", "..", "a/.pdf", "\u200b.pdf", "a.", "a.p df"])
def test_a_name_of_nothing_is_refused(given_):
    with pytest.raises(IntakeError, match="name"):
        clean_name(given_)


@given(st.text(max_size=200))
def test_a_cleaned_name_stays_as_it_is(text):
    try:
        name = clean_name(text + ".pdf")
    except IntakeError:
        return
    assert clean_name(name) == name
    assert len(name) <= 120
    assert name.isprintable()
    assert not set(name) & set('/\\<>:"|?*')


# ----------------------------------------------------------------------------------------------------- fuzz


@settings(max_examples=300)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_damaged_files_raise_nothing_but_the_refusal(name, data):
    body = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 40))
        body[at : at + cut] = data.draw(st.binary(max_size=40))
    with contextlib.suppress(IntakeError):
        assert examine(name, bytes(body)).kind


@given(
    st.sampled_from([b"%PDF-1.4\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBP", b"PK\x03\x04", b""]),
    st.binary(),
)
def test_noise_behind_a_known_beginning_raises_nothing_but_the_refusal(head, noise):
    with pytest.raises(IntakeError):
        examine("a.pdf", head + noise)


# --------------------------------------------------------------------------------------------------- ClamAV


class Listener:
    """A socket that answers each question with bytes of the test's choosing; it is no scanner."""

    def __init__(self, path: Path, *replies: bytes | None) -> None:
        self.line = socket.socket(socket.AF_UNIX)
        self.line.bind(str(path))
        self.line.listen()
        self.replies = replies
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        for reply in self.replies:
            peer, _ = self.line.accept()
            with peer:
                peer.recv(1 << 20)
                if reply is not None:
                    peer.sendall(reply)
                else:
                    peer.settimeout(5)
                    peer.recv(1)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(10)
        self.line.close()


@pytest.mark.parametrize(
    ("replies", "scan"),
    [
        ((b"ClamAV 1.4.6/27800/Mon Nov 23 08:00:00 2026\0", b"stream: OK\0"),
         Scan("scanned", "ClamAV 1.4.6", "27800, Mon Nov 23 08:00:00 2026")),
        ((b"ClamAV 1.4.6\0", b"stream: Eicar-Test FOUND\0"), Scan("infected", "ClamAV 1.4.6", "", "Eicar-Test")),
        ((b"ClamAV 1.4.6\0", b"INSTREAM size limit exceeded. ERROR\0"),
         Scan("not_scanned", "ClamAV 1.4.6", "", "too_large")),
        ((b"ClamAV 1.4.6\0", b"COMMAND READ TIMED OUT\0"), Scan("not_scanned", "ClamAV 1.4.6", "", "no_answer")),
        ((b"",), Scan("not_scanned", finding="no_answer")),
        ((b"x" * 9_000,), Scan("not_scanned", finding="no_answer")),
        ((None,), Scan("not_scanned", finding="no_answer")),
    ],
)  # fmt: skip
def test_whatever_clamd_answers_has_a_word(tmp_path, replies, scan):
    with Listener(tmp_path / "s", *replies):
        assert clamd_scan(tmp_path / "s", timeout_seconds=0.5)(b"bytes") == scan


def test_no_clamd_is_not_scanned_and_the_file_is_let_in(tmp_path):
    found = examine("a.png", a_png(), scan=clamd_scan(tmp_path / "none"))
    assert found.scan == Scan("not_scanned", finding="no_answer")


def test_an_infected_file_is_refused_with_the_signatures_name():
    with pytest.raises(IntakeError, match=r"Win\.Test\.A") as refused:
        examine("a.png", a_png(), scan=lambda _: Scan("infected", "ClamAV", "", "Win.Test.A"))
    assert refused.value.code == "infected"
