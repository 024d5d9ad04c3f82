"""The workbook of confirmation through a real LibreOffice: opened, saved again, edited, saved again, and read."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from openpyxl import load_workbook

from controlplane.intake import examine
from controlplane.sheets.form import ANNEX, COLUMNS, CRITERIA, GROUPS, HEADER
from controlplane.sheets.read import read_sheet
from controlplane.sheets.write import export_framework

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """``office(bytes)`` saves a workbook again with LibreOffice, without macros, in a profile of its own."""
    program = shutil.which("soffice")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("LibreOffice is missing; script/test integration installs it")
        pytest.skip("LibreOffice is not installed; script/test integration installs it")
    folder = tmp_path_factory.mktemp("office")
    counter = iter(range(100))

    def save_again(data: bytes, form: str = "xlsx") -> bytes:
        here = folder / str(next(counter))
        here.mkdir()
        (here / "in.xlsx").write_bytes(data)
        profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
        asked = [program, profile, "--headless", "--norestore", "--convert-to", form, "--outdir", here / "out"]
        subprocess.run([*asked, here / "in.xlsx"], check=True, capture_output=True, timeout=120)
        return (here / "out" / f"in.{form}").read_bytes()

    return save_again


@pytest.mark.parametrize("name", ["tt54-2017", "tcvn14423-2026"])
def test_saved_by_libreoffice_nothing_is_bad_and_nothing_changed(office, name):
    document = yaml.safe_load((ROOT / "checks" / "criteria" / f"{name}.yaml").read_text(encoding="utf-8"))
    saved = office(export_framework(document))
    page = load_workbook(io.BytesIO(saved))[CRITERIA]
    assert page.protection.sheet, "the locks outlive LibreOffice"
    assert page.data_validations.dataValidation, "so do the lists"
    assert examine("sổ.xlsx", saved).kind == "xlsx"
    printed = office(saved, "pdf")
    assert b"/OpenAction" in printed, "LibreOffice opens its files at a page; that is no reason to refuse them"
    assert examine("sổ.pdf", printed).kind == "pdf"
    preview = read_sheet(saved, document)
    assert preview.bad == ()
    assert (preview.unchanged, preview.confirmed, preview.ready) == (len(document["criteria"]), (), False)
    assert preview.same_pack


def test_edits_survive_libreoffice(office):
    document = yaml.safe_load((ROOT / "checks" / "criteria" / "tt54-2017.yaml").read_text(encoding="utf-8"))
    book = load_workbook(io.BytesIO(office(export_framework(document))))

    def put(page: str, row: int, **cells: object) -> None:
        for column, value in cells.items():
            book[page].cell(row, COLUMNS[page].index(column) + 1).value = value

    put(CRITERIA, HEADER + 9, confirm="x", new_level=3, new_clause=7.0, new_title="Phòng máy chủ đạt chuẩn")
    put(CRITERIA, HEADER + 1, confirm="không có")
    put(CRITERIA, HEADER + 2, confirm="=1+1")
    put(CRITERIA, HEADER + 140, group="Hạ tầng", confirm="x", new_level="2", new_clause="19", new_title="Máy phát điện")
    put(GROUPS, HEADER + 1, confirm="chưa đủ")
    put(ANNEX, HEADER + 1, confirm="x")
    out = io.BytesIO()
    book.save(out)
    preview = read_sheet(office(out.getvalue()), document)
    assert [(b.sheet, b.cell) for b in preview.bad] == [(CRITERIA, f"G{HEADER + 2}")]
    assert preview.confirmed == ("tt54.infra.x.9",)
    assert preview.absent == ("tt54.infra.x.1",)
    assert [c.after for c in preview.changes] == ["3", "Phụ lục I, mục I, tiêu chí 7", "Phòng máy chủ đạt chuẩn"]
    assert [a.id for a in preview.added] == ["tt54.infra.added.19"]
    assert preview.groups_incomplete == ("infra",)
    assert preview.annex2 == (("1", "infra", "1"),)


_UNO = r"""
import os, signal, subprocess, sys, time, uno
from com.sun.star.beans import PropertyValue
def prop(n, v):
    p = PropertyValue(); p.Name, p.Value = n, v; return p
program, profile, pipe, source, target = sys.argv[1:6]
office = subprocess.Popen([program, profile, "--headless", "--norestore", "--nologo",
                           f"--accept=pipe,name={pipe};urp;"], start_new_session=True)
try:
    resolver = uno.getComponentContext().ServiceManager.createInstance("com.sun.star.bridge.UnoUrlResolver")
    for _ in range(120):
        try:
            context = resolver.resolve(f"uno:pipe,name={pipe};urp;StarOffice.ComponentContext"); break
        except Exception:
            time.sleep(0.5)
    desktop = context.ServiceManager.createInstanceWithContext("com.sun.star.frame.Desktop", context)
    book = desktop.loadComponentFromURL(source, "_blank", 0, (prop("Hidden", True),))
    page = book.Sheets.getByName("Tiêu chí")
    book.CurrentController.setActiveSheet(page)
    keys = context.ServiceManager.createInstanceWithContext("com.sun.star.frame.DispatchHelper", context)
    frame = book.CurrentController.Frame
    for address, typed in (("G12", "x"), ("H12", "3"), ("I12", "1-2"), ("G13", "x"), ("I13", "3.10")):
        keys.executeDispatch(frame, ".uno:GoToCell", "", 0, (prop("ToPoint", address),))
        keys.executeDispatch(frame, ".uno:EnterString", "", 0, (prop("StringName", typed),))  # as a person types it
    book.storeToURL(target, (prop("FilterName", "Calc MS Excel 2007 XML"),))
    print("saved", flush=True)
finally:
    os.killpg(office.pid, signal.SIGKILL)  # it tends to fall over its own timers when it closes a view politely
    office.wait(60)
"""


def test_what_is_typed_in_libreoffice_stays_text(office, tmp_path):
    """The cells are of type text: 1-2 does not become a day, and 3.10 does not become 3.1."""
    python = next((p for p in ("/usr/bin/python3", sys.executable) if _has_uno(p)), None)
    if python is None:
        if os.environ.get("CI"):
            pytest.fail("python3-uno is missing; script/test integration installs it")
        pytest.skip("python3-uno is not installed; script/test integration installs it")
    document = yaml.safe_load((ROOT / "checks" / "criteria" / "tt54-2017.yaml").read_text(encoding="utf-8"))
    (tmp_path / "in.xlsx").write_bytes(export_framework(document))
    profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
    names = [(tmp_path / name).as_uri() for name in ("in.xlsx", "out.xlsx")]
    asked = [python, "-c", _UNO, shutil.which("soffice"), profile, f"emr{os.getpid()}", *names]
    done = subprocess.run(asked, capture_output=True, timeout=180, text=True, check=False)
    assert done.stdout == "saved\n", done.stderr
    preview = read_sheet((tmp_path / "out.xlsx").read_bytes(), document)
    assert preview.bad == ()
    assert preview.overlay["criteria"] == {
        "tt54.infra.x.9": {"levels": ["3"], "clause": "1-2"},
        "tt54.infra.x.10": {"clause": "3.10"},
    }


def _has_uno(python: str) -> bool:
    return subprocess.run([python, "-c", "import uno"], capture_output=True, check=False).returncode == 0
