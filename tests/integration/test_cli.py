"""emrctl as a person uses it: whole processes, exit codes, sentences in both tongues, JSON, and no traceback."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import openpyxl
import pytest
from typer.testing import CliRunner

from controlplane.cli import app
from tests.conftest import ROOT
from tests.unit.test_intake import a_pdf


def emrctl(data, *argv, **options):
    env = {k: v for k, v in os.environ.items() if not k.startswith("EMRCTL_")} | options.pop("env", {})
    command = [sys.executable, "-m", "controlplane", "--data-dir", str(data), *map(str, argv)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=options.pop("cwd", ROOT), env=env
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made = emrctl(folder, "init")
    assert made.returncode == 0, made.stderr
    walked = emrctl(folder, "round", "--json")
    assert walked.returncode == 0, walked.stderr
    assert json.loads(walked.stdout)["looks"]["answered"] == 1
    return folder


@pytest.mark.parametrize(
    "verb",
    [
        ["inventory"],
        ["inventory", "workstations"],
        ["status"],
        ["score"],
        ["checks"],
        ["explain", "tcvn14423.log.ntp"],
        ["plays"],
        ["runs"],
        ["chain"],
        ["reindex"],
        ["accounts", "list"],
        ["version"],
    ],
)
def test_every_verb_speaks_json_and_words(data, verb):
    spoken = emrctl(data, *verb, "--json")
    assert spoken.returncode == 0, spoken.stderr
    json.loads(spoken.stdout)
    worded = emrctl(data, *verb)
    assert worded.returncode == 0, worded.stderr
    assert worded.stdout.strip()


def test_help_names_every_verb(data):
    text = emrctl(data, "--help").stdout
    for verb in ("inventory", "round", "status", "score", "explain", "checks", "preview", "apply"):
        assert verb in text
    for verb in ("report", "evidence", "serve", "doctor", "reindex", "init"):
        assert verb in text
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


def test_status_is_vietnamese_and_english(data):
    assert "Mức 2" in emrctl(data, "status").stdout
    assert "Level 2" in emrctl(data, "--lang", "en", "status").stdout


def test_a_failing_criterion_of_this_machine_is_explained_down_to_the_bytes(data):
    card = json.loads(emrctl(data, "score", "--json").stdout)
    failing = [c["id"] for c in card["criteria"] if c["verdict"] == "not_met"]
    assert failing, "this machine meets every check: that would be news"
    text = emrctl(data, "explain", failing[0]).stdout
    explained = json.loads(emrctl(data, "explain", failing[0], "--json").stdout)
    digests = {
        f["observation"]["raw_digest"]
        for c in explained["checks"]
        for f in c["findings"]
        if f["observation"] is not None
    } - {None}
    assert digests
    assert all(digest in text for digest in digests)


COMMUNICATE = "tcvn14423.risk.communicate"
SAID = ["--by", "P", "--statement", "S", "--until", "2099-01-01"]
BAD = [
    (["explain", "tcvn14423.log.ntpp"], 2, "tcvn14423.log.ntp"),
    (["status", "--as-of", "31/12/2026"], 2, "2025-08-15"),
    (["round", "--limit", "pc-99"], 1, "pc-99"),
    (["inventory", "workstation"], 1, "workstations"),
    (["preview", "time-shh"], 1, "time-ssh"),
    (["apply", "nothing"], 1, "time-ssh"),
    (["report", "weekly", "--week", "2025-W54", "--out", "{tmp}/r.docx"], 2, "tuần 54"),
    (["report", "weekly", "--week", "tuần này", "--out", "{tmp}/r.docx"], 2, "tuần này"),
    (["report", "weekly", "--week", "2025-W33", "--out", "{tmp}/no/folder/r.docx"], 1, "r.docx"),
    (["evidence", "verify", "{tmp}/missing.zip"], 4, "missing.zip"),
    (["evidence", "export", "--out", "/proc/x.zip"], 1, "x.zip"),
    (["accounts", "add", "Trưởng Khoa", "engineer"], 2, "Trưởng Khoa"),
    (["accounts", "add", "khoa-kham", "doctor"], 2, "engineer"),
    (["accounts", "reset", "nobody"], 2, "nobody"),
    (
        ["declare", "tcvn14423.x", "--by", "Phòng HC-TH", "--statement", "Đã ban hành", "--until", "2099-01-01"],
        2,
        "14423",
    ),
    (
        ["declare", COMMUNICATE, "--by", "P", "--statement", "S", "--until", "2020-01-01"],
        2,
        "2020-01-01",
    ),
    (
        ["declare", COMMUNICATE, "--by", " ", "--statement", "S", "--until", "2099-01-01"],
        2,
        "đơn vị khai",
    ),
    (["declare", COMMUNICATE, *SAID, "--document", "{tmp}/none.pdf"], 2, "none.pdf"),
    (["frobnicate"], 2, "frobnicate"),
    (["serve", "--port", "99999"], 2, "99999"),
]


@pytest.mark.parametrize(("argv", "code", "word"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_bad_input_gets_a_sentence_and_an_exit_code(data, tmp_path, argv, code, word):
    refused = emrctl(data, *(a.replace("{tmp}", str(tmp_path)) for a in argv))
    said = refused.stdout + refused.stderr
    assert refused.returncode == code, said
    assert word in said
    assert "Traceback" not in said


def test_a_missing_store_a_bad_setting_and_a_broken_settings_file_are_said(tmp_path):
    missing = emrctl(tmp_path / "none", "status")
    assert (missing.returncode, "script/server" in missing.stderr) == (1, True)
    wrong = emrctl(tmp_path, "status", env={"EMRCTL_AT_ONCE": "many"})
    assert (wrong.returncode, "at_once" in wrong.stderr) == (2, True)
    (tmp_path / "emrctl.toml").write_text("port = = 8080\n")
    broken = emrctl(tmp_path, "status")
    assert broken.returncode == 2
    assert "Traceback" not in broken.stderr


def test_a_port_in_use_is_said(data):
    import socket  # noqa: PLC0415

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = emrctl(data, "serve", "--port", taken.getsockname()[1])
    assert (refused.returncode, "--port" in refused.stderr) == (1, True)


def test_evidence_goes_out_and_verifies_and_one_flipped_bit_is_named(data, tmp_path):
    out = tmp_path / "bundle.zip"
    assert emrctl(data, "evidence", "export", "--out", out).returncode == 0
    assert emrctl(data, "evidence", "export", "--out", out).returncode == 2
    good = emrctl(data, "evidence", "verify", out, "--json")
    proven = json.loads(good.stdout)
    assert proven["ok"]
    head = emrctl(data, "evidence", "verify", out, "--fingerprint", proven["key_fingerprint"], "--head", proven["head"])
    assert head.returncode == 0
    with zipfile.ZipFile(out) as opened:
        name = next(n for n in opened.namelist() if n.startswith("objects/"))
        offset = opened.getinfo(name).header_offset + 30 + len(name)
    flipped = bytearray(out.read_bytes())
    flipped[offset] ^= 4
    out.write_bytes(flipped)
    bad = emrctl(data, "evidence", "verify", out)
    assert (bad.returncode, name in bad.stderr) == (4, True)


def test_a_document_is_kept_moves_its_criterion_and_lies_in_the_bundle(data, tmp_path):
    paper = tmp_path / "quy-trinh.pdf"
    paper.write_bytes(a_pdf())
    name = "tcvn14423.risk.process"
    argv = ["declare", name, "--by", "Phòng HC-TH", "--statement", "Đã ban hành quy trình"]
    refused = emrctl(data, *argv, "--until", "2099-01-01")
    assert (refused.returncode, "văn bản đã ký" in refused.stderr) == (2, True)
    signed = ["--kind", "document", "--issued-on", "2026-01-05", "--signer", "Giám đốc", "--document", paper]
    kept = emrctl(data, *argv, *signed, "--json")
    assert kept.returncode == 0, kept.stderr
    story = json.loads(emrctl(data, "explain", name, "--json").stdout)
    (said,) = story["words"]
    assert (said["id"], said["value"]["by"]) == (-json.loads(kept.stdout)["seq"], "Phòng HC-TH")
    assert (story["score"]["verdict"], story["score"]["proof"]) == ("met", "declared")
    assert "Đã ban hành quy trình" in emrctl(data, "explain", name).stdout
    out = tmp_path / "bundle.zip"
    assert emrctl(data, "evidence", "export", "--out", out).returncode == 0
    with zipfile.ZipFile(out) as opened:
        assert opened.read(f"objects/{said['raw_digest']}") == paper.read_bytes()
    taken_back = emrctl(data, *argv, "--kind", "withdrawn")
    assert taken_back.returncode == 0
    assert json.loads(emrctl(data, "explain", name, "--json").stdout)["score"]["verdict"] == "unknown"
    words = emrctl(data, "explain", name, "--json").stdout
    assert emrctl(data, "reindex").returncode == 0
    assert emrctl(data, "explain", name, "--json").stdout == words


def test_the_weekly_report_is_written_and_kept_in_the_chain(data, tmp_path):
    out = tmp_path / "report.docx"
    before = json.loads(emrctl(data, "chain", "--json").stdout)["head"]["seq"]
    made = emrctl(data, "report", "weekly", "--week", "2025-W33", "--out", out)
    assert made.returncode == 0, made.stderr
    assert zipfile.ZipFile(out).testzip() is None
    assert json.loads(emrctl(data, "chain", "--json").stdout)["head"]["seq"] == before + 1


def test_a_kill_during_a_round_leaves_a_store_that_opens(tmp_path):
    emrctl(tmp_path, "init")
    command = [sys.executable, "-m", "controlplane", "--data-dir", str(tmp_path), "round"]
    victim = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        opened = emrctl(tmp_path, "chain", "--json")
        if opened.returncode == 0 and json.loads(opened.stdout)["head"]:
            break
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    status = json.loads(emrctl(tmp_path, "status", "--json").stdout)
    assert status["chain_holds"]
    assert [n["code"] for n in status["notes"]] in (["no_round", "interrupted"], [])
    assert emrctl(tmp_path, "chain").returncode == 0
    assert emrctl(tmp_path, "round").returncode == 0


BROKEN_FILES = [
    ("checks/server.yaml", "checks:\n- id: [unclosed\n", "server.yaml"),
    ("checks/server.yaml", "checks:\n- id: server.x\n  titel: {vi: a, en: b}\n", "titel"),
    ("checks/server.yaml", "\xff\xfe", "server.yaml"),
    ("checks/criteria/tt54-2017.yaml", "framework: tt54-2017\n", "tt54-2017.yaml"),
    (
        "checks/waivers.yaml",
        "waivers:\n- {check: no.such, reason: r, approver: a, expires_on: 2030-01-01}\n",
        "no.such",
    ),
    ("playbooks/plays.yaml", "plays: []\n", "plays.yaml"),
    ("playbooks/plays.yaml", "plays: [\n", "plays.yaml"),
    ("inventory/campaign.yaml", "title: {vi: a}\n", "campaign.yaml"),
    ("inventory/vlans.yaml", "vlans: 7\n", "vlans.yaml"),
    ("inventory/hosts.yaml", "all:\n\thosts:\n", "hosts.yaml"),
]


@pytest.mark.parametrize(("file", "text", "word"), BROKEN_FILES, ids=lambda v: v[:24] if isinstance(v, str) else None)
def test_every_file_of_the_house_when_broken_is_named_and_loses_nothing(tmp_path, file, text, word):
    home = tmp_path / "home"
    for name in ("checks", "playbooks", "inventory"):
        shutil.copytree(ROOT / name, home / name)
    (home / file).write_bytes(text.encode("latin-1"))
    emrctl(tmp_path / "data", "init")
    refused = emrctl(tmp_path / "data", "status", env={"EMRCTL_HOME": str(home)})
    said = refused.stdout + refused.stderr
    assert refused.returncode == 1, said
    assert word in said
    assert "Traceback" not in said
    assert emrctl(tmp_path / "data", "status").returncode == 0


CHECK_FILE = """
checks:
- id: try.disk
  title: {vi: "Đĩa còn chỗ", en: "The disk has room"}
  fact: disk.usage
  role: controlplane
  of: used_percent
  expect: {at_most: 100}
  fresh_within: 7d
  severity: low
  fix: {vi: "Dọn đĩa", en: "Clean the disk"}
  examples: {met: [[{mount: /, used_percent: 40}]], not_met: [[{mount: /, used_percent: NOT_MET}]]}
"""


def test_a_new_check_is_tried_on_the_latest_facts_and_nothing_is_kept(data, tmp_path):
    head = emrctl(data, "chain", "--json").stdout
    file = tmp_path / "mine.yaml"
    file.write_text(CHECK_FILE.replace("NOT_MET", "101"), encoding="utf-8")
    tried = emrctl(data, "checks", "test", file, "--json")
    assert tried.returncode == 0, tried.stderr
    (trial,) = json.loads(tried.stdout)
    assert [(f["asset"], f["verdict"]) for f in trial["findings"]] == [("controlplane-01", "met")]
    file.write_text(CHECK_FILE.replace("NOT_MET", "99"), encoding="utf-8")
    wrong = emrctl(data, "checks", "test", file)
    assert (wrong.returncode, "Ví dụ" in wrong.stdout) == (1, True)
    file.write_text(CHECK_FILE.replace("disk.usage", "disk.usagee"), encoding="utf-8")
    unknown = emrctl(data, "checks", "test", file)
    assert (unknown.returncode, "disk.usage" in unknown.stderr) == (1, True)
    assert emrctl(data, "checks", "test", tmp_path / "none.yaml").returncode == 2
    assert emrctl(data, "chain", "--json").stdout == head


def test_coverage_counts_every_framework_and_never_more_than_there_is(data):
    rows = {r["framework"]: r for r in json.loads(emrctl(data, "checks", "coverage", "--json").stdout)["frameworks"]}
    assert set(rows) >= {"tt54-2017", "tt13-2025", "cv365-2025", "tcvn14423-2026", "tcvn11930-2017"}
    for row in rows.values():
        assert row["confirmed"] + row["second_hand"] + row["draft"] == row["criteria"]
        assert row["automated"] <= row["judged"] <= row["criteria"]
        for level, count in row["automated_by_level"].items():
            assert count <= row["judged_by_level"][level] <= row["measurable_by_level"][level]
    assert rows["tcvn14423-2026"]["measurable_by_level"] == {"1": 62, "2": 75, "3": 117}
    assert (rows["tt54-2017"]["criteria"], rows["tt54-2017"]["draft"]) == (135, 104)


def test_what_rests_on_the_rules_alone_needs_no_store_and_leaves_none_behind(tmp_path, data):
    nowhere = tmp_path / "none"
    shipped = emrctl(nowhere, "checks", "coverage", "--json")
    assert shipped.returncode == 0, shipped.stderr
    rows = {r["framework"]: r for r in json.loads(shipped.stdout)["frameworks"]}
    law = rows["tcvn14423-2026"]["automated_by_level"]
    assert law["2"] >= 65
    assert law["3"] >= 85
    counts = {
        r["framework"]: r["criteria"]
        for r in json.loads(emrctl(data, "checks", "coverage", "--json").stdout)["frameworks"]
    }
    assert counts == {name: row["criteria"] for name, row in rows.items()}
    book = tmp_path / "tt54.xlsx"
    for argv in (
        ["checks"],
        ["plays"],
        ["level"],
        ["incident", "2026-11-26T14:30"],
        ["catalog", "export", "tt54", "--out", book],
    ):
        assert emrctl(nowhere, *argv).returncode == 0, argv
    assert (emrctl(nowhere, "score").returncode, nowhere.exists()) == (1, False)


def test_the_level_is_certain_and_possible_and_a_wrong_answer_is_said(data):
    asked = emrctl(data, "level", "internal=yes", "nonpublic=có", "--json")
    found = json.loads(asked.stdout)["determination"]
    assert (found["level"], found["possible"]) == ("2", "3")
    for bad in ("internal", "internal=maybe", "nothing=yes", "internal=7"):
        refused = emrctl(data, "level", bad)
        assert (refused.returncode, bad in refused.stderr) == (2, True), bad


def test_a_duty_that_was_done_is_no_longer_late(data):
    def late() -> list[str]:
        rows = json.loads(emrctl(data, "duties", "--json").stdout)["duties"]
        return [row["duty"]["id"] for row in rows if (row["days_left"] or 0) < 0]

    name = late()[0]
    assert emrctl(data, "file", name, "--by", "Giám đốc").returncode == 0
    assert name not in late()
    refused = emrctl(data, "file", "security.year_close", "--by", "P")
    assert (refused.returncode, "security.year_closed" in refused.stderr) == (2, True)
    assert emrctl(data, "file", name, "--by", "P", "--on", "2999-01-01").returncode == 2


def test_an_incident_has_its_deadlines_in_the_hospitals_time(data):
    rows = json.loads(emrctl(data, "incident", "2026-11-26T14:30", "--serious", "--json").stdout)
    assert [row["due_at"] for row in rows] == ["2026-11-27T07:30:00.000000Z", "2026-11-29T07:30:00.000000Z"]
    assert "27/11/2026 14:30" in emrctl(data, "incident", "2026-11-26T14:30", "--serious").stdout
    assert emrctl(data, "incident", "hôm qua").returncode == 2


def test_the_law_in_force_follows_the_day_asked_for(data):
    def frameworks(*options: str) -> set[str]:
        return {g["framework"] for g in json.loads(emrctl(data, "score", "--json", *options).stdout)["groups"]}

    assert "tcvn11930-2017" in frameworks("--law", "2025-08-15")
    assert "tcvn14423-2026" not in frameworks("--law", "2025-08-15")
    assert "tcvn14423-2026" in frameworks()
    assert "tcvn11930-2017" in frameworks("--as-of", "2025-08-15")


def test_a_difference_of_two_days_names_its_causes(data):
    moved = json.loads(emrctl(data, "diff", "2025-08-15", "--json").stdout)
    assert any(c["causes"] for c in moved["criteria"])
    assert emrctl(data, "diff", "2025-08-15").returncode == 0
    assert emrctl(data, "diff", "2999-01-01").returncode == 2
    assert emrctl(data, "diff", "20990101T000000Z-ffffff").returncode == 2


def test_a_framework_is_confirmed_from_the_official_copy_and_earlier_rounds_keep_their_rules(data, tmp_path):
    book, official = tmp_path / "tt54.xlsx", tmp_path / "tt54-ban-chinh.pdf"
    official.write_bytes(a_pdf())
    assert emrctl(data, "catalog", "export", "tt54", "--xlsx", "--out", book).returncode == 0
    untouched = json.loads(emrctl(data, "catalog", "import", book, "--framework", "tt54", "--json").stdout)
    assert (untouched["preview"]["bad"], untouched["preview"]["changes"], untouched["ready"]) == ([], [], False)
    opened = openpyxl.load_workbook(book)
    page = opened["Tiêu chí"]
    (confirm,) = [cell.column for cell in page[3] if str(cell.value).startswith("Xác nhận")]
    row = next(cells[0].row for cells in page.iter_rows(min_row=4) if cells[0].value == "tt54.lis.basic.1")
    page.cell(row, confirm).value = "x"
    opened.save(book)
    before = json.loads(emrctl(data, "score", "--json").stdout)["catalog_digest"]
    argv = ["catalog", "import", book, "--framework", "tt54", "--by", "Phòng HC-TH", "--document", official, "--json"]
    kept = json.loads(emrctl(data, *argv).stdout)
    assert kept["link"]["kind"] == "pack"
    rows = {r["framework"]: r for r in json.loads(emrctl(data, "checks", "coverage", "--json").stdout)["frameworks"]}
    assert rows["tt54-2017"]["confirmed"] == 1
    story = json.loads(emrctl(data, "explain", "tt54.lis.basic.1", "--json").stdout)
    assert story["criterion"]["standing"] == "confirmed"
    named = {name: story["confirmed"][name] for name in ("by", "document", "sha256", "link")}
    digest = hashlib.sha256(official.read_bytes()).hexdigest()
    assert named == {"by": "Phòng HC-TH", "document": official.name, "sha256": digest, "link": kept["link"]["seq"]}
    assert "Phòng HC-TH" in emrctl(data, "explain", "tt54.lis.basic.1").stdout
    assert json.loads(emrctl(data, "score", "--json").stdout)["catalog_digest"] != before
    page.cell(row, confirm).value = "=1+1"
    opened.save(book)
    bad = emrctl(data, "catalog", "import", book, "--framework", "tt54")
    assert (bad.returncode, "Tiêu chí!" in bad.stdout) == (1, True)
    assert emrctl(data, "catalog", "import", book, "--framework", "tt54", "--by", "P").returncode == 2
    assert emrctl(data, "catalog", "export", "tt99").returncode == 2
