"""The main job end to end on the lab's real hosts, by emrctl alone: measure, explain, mend, measure again, prove."""

import json
import shutil
import sys
import zipfile

import pytest
import yaml

from tests.conftest import ROOT

pytestmark = pytest.mark.lab


class Hospital:
    """emrctl in the lab's network, on a store of its own."""

    def __init__(self, lab, data):
        self.lab, self.data = lab, data

    def emrctl(self, *argv, code=0):
        known = ["--known-hosts", self.lab.known_hosts, "--inventory", self.lab.inventory]
        command = [sys.executable, "-m", "controlplane", "--data-dir", self.data, *known, *argv]
        done = self.lab.exec(command, cwd=ROOT, timeout=280)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, *argv, code=0):
        return json.loads(self.emrctl(*argv, "--json", code=code))

    def looks(self):
        return {(a["name"]): a for a in self.json("inventory")}

    def findings(self, criterion):
        explained = self.json("explain", criterion)
        return {
            (c["check"]["id"], f["finding"]["asset"]): f["finding"] for c in explained["checks"] for f in c["findings"]
        }


@pytest.fixture(scope="module")
def hospital(lab, tmp_path_factory):
    made = lab.run_lab("up", "--fresh")
    assert made.returncode == 0, made.stderr
    place = Hospital(lab, tmp_path_factory.mktemp("hospital") / "data")
    place.emrctl("init")
    return place


def test_a_round_reads_every_host_of_the_lab(hospital):
    kept = hospital.json("round")
    assert kept["looks"]["answered"] == 8  # seven lab hosts and this machine
    assert kept["looks"]["no_address"] == 82 - 8  # the seven service end points have no address yet
    assert set(kept["looks"]) == {"answered", "no_address"}


def test_the_switch_answers_over_snmp_v3_with_its_vlans(hospital):
    findings = hospital.findings("tcvn14423.net.zones")
    mine = {check: f for (check, asset), f in findings.items() if asset == "sw-acc-01"}
    assert mine
    assert all(f["raw_digest"] for f in mine.values())


def test_a_play_is_previewed_applied_measured_again_and_kept_as_one_dossier(hospital):
    before = hospital.lab.inside("pc-01", ["sh", "-c", "cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/* | sha256sum"])
    preview = hospital.json("preview", "time-ssh", "--limit", "pc-01")
    after = hospital.lab.inside("pc-01", ["sh", "-c", "cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/* | sha256sum"])
    assert before.stdout == after.stdout, "a preview changed the host"
    assert [t for t in preview["run"]["tasks"] if t["status"] == "would_change"]
    applied = hospital.json("apply", "time-ssh", "--limit", "pc-01")
    assert applied["run"]["state"] == "successful"
    assert len(applied["rounds"]) == 2
    moved = applied["difference"]["findings"]
    assert moved, "the play mended nothing that is measured"
    assert {m["asset"] for m in moved} == {"pc-01"}
    assert {m["after"] for m in moved} == {"met"}
    checks = {c["id"]: c for c in hospital.json("checks")}
    assert {checks[m["check"]]["remedy"] for m in moved} == {"time-ssh"}


def test_a_second_apply_changes_nothing(hospital):
    again = hospital.json("apply", "time-ssh", "--limit", "pc-01")
    assert {host["changed"] for host in again["run"]["recap"].values()} == {0}
    assert again["difference"]["findings"] == []


def test_on_the_server_the_mended_criterion_shows_its_bytes(hospital):
    applied = hospital.json("apply", "time-ssh", "--limit", "sv-01")
    assert applied["run"]["state"] == "successful"
    mended = [m for m in applied["difference"]["findings"] if m["after"] == "met"]
    assert mended
    text = hospital.emrctl("explain", "tcvn14423.log.ntp")
    assert "SHA-256" in text


def test_a_host_that_is_off_is_unreachable_and_costs_the_others_nothing(hospital):
    hospital.lab.run_lab("stop", "pc-02", check=True)
    try:
        kept = hospital.json("round", "--limit", "workstations", code=3)
        assert kept["looks"]["answered"] == 2
        assert sum(kept["looks"].values()) == 35
        assert set(kept["looks"]) - {"answered", "no_address"} <= {"unreachable", "timeout", "refused"}
        findings = [f for f in hospital.findings("tcvn14423.log.ntp").values() if f["asset"] == "pc-02"]
        assert all(f["verdict"] in ("met", "not_met") for f in findings), "a failed look erased a good answer"
    finally:
        hospital.lab.run_lab("start", "pc-02", check=True)


def test_a_changed_host_key_is_never_accepted(hospital):
    hospital.lab.run_lab("rekey", "pc-03", check=True)
    kept = hospital.json("round", "--limit", "pc-03", code=3)
    assert kept["looks"] == {"host_key_changed": 1}
    said = hospital.emrctl("--lang", "en", "round", "--limit", "pc-03", code=3)
    assert "host key changed" in said


def test_a_play_on_a_host_that_is_off_says_unreachable_and_leaves_the_score_untouched(hospital):
    hospital.lab.run_lab("stop", "pc-02", check=True)
    try:
        before = hospital.json("score")["criteria"]
        dossier = hospital.json("apply", "time-ssh", "--limit", "pc-02", code=1)
        assert dossier["run"]["state"] == "unreachable"
        assert dossier["difference"] is None
        assert hospital.json("score")["criteria"] == before
    finally:
        hospital.lab.run_lab("start", "pc-02", check=True)


def test_all_of_it_is_in_one_bundle_that_verifies(hospital, tmp_path):
    out = tmp_path / "bundle.zip"
    hospital.emrctl("evidence", "export", "--out", out)
    with zipfile.ZipFile(out) as opened:
        kinds = [json.loads(line)["kind"] for line in opened.read("links.jsonl").splitlines()]
        opened.extract("verify.py", tmp_path)
    assert kinds.count("run") == 5
    assert kinds.count("run") == kinds.count("run_opened")
    verified = hospital.lab.exec([sys.executable, "-I", tmp_path / "verify.py", out])
    assert (verified.returncode, "NGUYÊN VẸN" in verified.stdout) == (0, True)


def test_the_lab_secrets_are_nowhere_in_the_store(hospital):
    words = [
        line.partition("=")[2].strip().encode()
        for version in ("2c", "3")
        for line in hospital.lab.secret(version).read_text().splitlines()
        if line.partition("=")[0].strip() in ("community", "auth_key", "priv_key")
    ]
    words.append(hospital.lab.key("reader").read_bytes().splitlines()[1][:40])
    assert len(words) == 4
    from controlplane.store.vault import Vault  # noqa: PLC0415

    vault = Vault(hospital.data / "vault")
    for name in vault.names():
        data = vault.get(name)
        assert not [w for w in words if w in data], name


KEPT = {"sv-01", "pc-01", "pc-02", "pc-03", "sw-acc-01", "prn-01", "ups-01"}


def a_small_hospital(home):
    """The shipped rules and plays over an inventory of the lab's hosts alone, as a home of its own."""
    for name in ("checks", "playbooks", "inventory"):
        shutil.copytree(ROOT / name, home / name)
    document = yaml.safe_load((home / "inventory" / "hosts.yaml").read_text(encoding="utf-8"))

    def prune(group):
        if group.get("hosts"):
            group["hosts"] = {name: values for name, values in group["hosts"].items() if name in KEPT}
        for child in (group.get("children") or {}).values():
            if child:
                prune(child)

    prune(document["all"])
    (home / "inventory" / "hosts.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return home


def test_in_a_hospital_of_these_hosts_alone_the_play_moves_criteria_and_only_its_own(lab, tmp_path, monkeypatch):
    assert lab.run_lab("up", "--fresh").returncode == 0
    monkeypatch.setenv("EMRCTL_HOME", str(a_small_hospital(tmp_path / "home")))
    place = Hospital(lab, tmp_path / "data")
    place.emrctl("init")
    assert place.json("round")["looks"] == {"answered": 7}
    before = {c["id"]: c["verdict"] for c in place.json("score")["criteria"]}
    assert before["tcvn14423.net.secure_conn"] == "not_met"
    applied = place.json("apply", "time-ssh")
    assert applied["run"]["state"] == "successful"
    moved = {m["criterion"]: (m["before"], m["after"]) for m in applied["difference"]["criteria"]}
    # The play's checks are needed for this criterion and do not cover it: the violation is gone, no more is claimed.
    assert moved["tcvn14423.net.secure_conn"] == ("not_met", "unknown")
    assert moved["tcvn14423.net.idle_timeout"] == ("not_met", "unknown")
    serves = {c["id"]: {*c["serves"], *c["partly"]} for c in place.json("checks") if c["remedy"] == "time-ssh"}
    assert set(moved) <= set().union(*serves.values())
    after = {c["id"]: c["verdict"] for c in place.json("score")["criteria"]}
    assert {name for name in before if before[name] != after[name]} == set(moved)
