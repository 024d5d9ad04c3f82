"""The product installed by its own play on a Debian server run by systemd: used, upgraded, and brought back. No mock.

The server has no way out: everything comes in the one file that script/release makes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ROOT, Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]

HOST = "sv-01"
BROKEN = "raise SystemExit('this release does not start')\n"


class Server:
    """The server, and the play against it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.address = lab.addresses[HOST] if hasattr(lab, "addresses") else "10.77.0.10"

    def play(self, code: int = 0, options: tuple[str, ...] = (), **variables: Any) -> str:
        """Carry the play out by Ansible itself; its words."""
        overlay = self.folder / "overlay.yaml"
        about = {
            "ansible_host": self.address,
            "ansible_user": "emrplay",
            "ansible_ssh_private_key_file": str(self.lab.key("play")),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.lab.known_hosts} -o StrictHostKeyChecking=yes",
        }
        overlay.write_text(
            yaml.safe_dump({"all": {"children": {"controlplane": {"hosts": {HOST: about | variables}}}}})
        )
        programs = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
        argv = ["env", f"PATH={programs}", "ansible-playbook"]
        argv += ["-i", str(overlay), str(ROOT / "playbooks" / "controlplane.yml"), *options]
        done = self.lab.exec(argv, cwd=ROOT / "playbooks", timeout=300)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-2000:]
        return done.stdout + done.stderr

    def inside(self, *argv: str) -> str:
        done = self.lab.inside(HOST, argv)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def health(self) -> dict[str, Any]:
        """What the pages say of themselves, over HTTPS with the server's own certificate."""
        script = (
            "import json, ssl, sys, urllib.request as u;"
            "c = ssl.create_default_context(cafile='/etc/emrctl/tls/own.crt');"
            "print(u.urlopen('https://sv-01/healthz', context=c, timeout=5).read().decode())"
        )
        answer: dict[str, Any] = json.loads(self.inside("python3", "-c", script))
        return answer

    def asked(self, database: str, query: str, *given: str) -> list[list[Any]]:
        """Rows of a store on the server, read as root."""
        script = (
            "import json, sqlite3, sys; rows = sqlite3.connect(sys.argv[1]).execute(sys.argv[2], sys.argv[3:]);"
            "print(json.dumps(rows.fetchall()))"
        )
        rows: list[list[Any]] = json.loads(self.inside("python3", "-c", script, database, query, *given))
        return rows

    def links(self) -> int:
        found = json.loads(self.inside("emrctl", "chain", "--json"))
        assert found["holds"]
        return int(found["head"]["seq"])


def changed(words: str) -> int:
    return int(re.findall(rf"^{HOST} .* changed=([0-9]+) ", words, re.MULTILINE)[-1])


def remade(release: Path, version: str, edits: dict[str, bytes]) -> Path:
    """Another release with the same libraries: files of its tree replaced, sums made anew as script/release does."""
    made = release.with_name(f"emr-control-plane-{version}-{hashlib.sha256(version.encode()).hexdigest()[:12]}.tar")
    parts = {}
    with tarfile.open(release) as whole:
        members = {member.name.removeprefix("./"): member for member in whole if member.isfile()}
        for name, member in members.items():
            parts[name] = whole.extractfile(member).read()  # type: ignore[union-attr]
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(parts["source.tar"])) as tree, tarfile.open(fileobj=out, mode="w") as new:
        for member in tree:
            data = edits.get(member.name, tree.extractfile(member).read() if member.isfile() else b"")  # type: ignore[union-attr]
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    parts["source.tar"] = out.getvalue()
    parts["RELEASE"] = parts["RELEASE"].replace(b"version=0.1.0", f"version={version}".encode())
    del parts["SHA256SUMS"]
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(parts.items())]
    parts["SHA256SUMS"] = "".join(lines).encode()
    with tarfile.open(made, "w") as whole:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            whole.addfile(member, io.BytesIO(data))
    return made


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """script/release on a clean clone of this commit, as the engineer would call it."""
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "-q", ROOT, source], check=True)
    done = subprocess.run(
        [source / "script" / "release", "--out", folder], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def server(lab: Lab, release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server with the release installed."""
    if lab.status()[HOST]["how"] != "systemd":
        pytest.skip(lab.status()[HOST]["note"])
    place = Server(lab, tmp_path_factory.mktemp("server"))
    place.play(control_plane_release=str(release))
    yield place
    place.lab.inside(HOST, ["systemctl", "disable", "--now", "emrctl.service", "emrctl-copy.timer", "nginx.service"])


def test_it_runs_with_few_rights_and_answers_by_https_alone(server: Server) -> None:
    assert server.health() == {"ok": True, "version": "0.1.0"}
    listens = server.inside("ss", "-Hltn")
    assert "127.0.0.1:8080" in listens
    assert "0.0.0.0:8080" not in listens
    pid = server.inside("systemctl", "show", "--property=MainPID", "--value", "emrctl.service").strip()
    status = server.inside("cat", f"/proc/{pid}/status")
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert told["Uid"].split()[0] == server.inside("id", "-u", "emrctl").strip()
    assert int(told["CapBnd"], 16) == int(told["CapEff"], 16) == 0
    assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
    for path, mode in (("/var/lib/emrctl/store", "700"), ("/etc/emrctl/tls/own.key", "600")):
        assert server.inside("stat", "-c", "%a", path).strip() == mode


def test_a_second_time_nothing_changes_and_a_preview_says_so(server: Server, release: Path) -> None:
    """The nightly check of drift is such a preview."""
    assert changed(server.play(control_plane_release=str(release), options=("--check",))) == 0
    assert changed(server.play(control_plane_release=str(release))) == 0


def test_it_looks_at_its_own_machine_whole_and_a_copy_is_made_by_the_clock(server: Server) -> None:
    """The service may not become root, so it comes by SSH to an account that may run one script and read."""
    made = json.loads(server.inside("emrctl", "round", "--json"))
    assert made["looks"]["answered"] == 1
    query = "select asset, transport from looks where outcome = 'answered' and transport != 'record' and round_id = ?"
    assert server.asked("/var/lib/emrctl/store/emrctl.db", query, made["id"]) == [["controlplane-01", "ssh"]]
    # What only root may read was read, by the commands that the account may raise.
    query = "select answered from observations where asset = 'controlplane-01' and fact = 'accounts.powers' and latest"
    assert server.asked("/var/lib/emrctl/store/emrctl.db", query) == [[1]]
    before = server.links()
    server.inside("systemctl", "start", "emrctl-copy.service")
    assert server.inside("stat", "-c", "%a %U", "/var/lib/emrctl/copy/emrctl.db").strip() == "600 emrctl"
    ((copied,),) = server.asked("/var/lib/emrctl/copy/emrctl.db", "select max(seq) from links")
    assert copied >= before
    assert "emrctl-copy.timer" in server.inside("systemctl", "list-timers", "--all", "--no-pager")
    refused = server.lab.inside(HOST, ["runuser", "-u", "emrself", "--", "sudo", "-n", "id"])
    assert refused.returncode != 0, "the reading account may raise its own commands only"


@pytest.mark.soak
def test_an_upgrade_keeps_the_record_and_a_release_that_does_not_start_is_taken_back(
    server: Server, release: Path
) -> None:
    links = server.links()
    words = (ROOT / "controlplane" / "__init__.py").read_text(encoding="utf-8")
    newer = remade(release, "0.1.1", {"controlplane/__init__.py": words.replace("0.1.0", "0.1.1").encode()})
    server.inside("sh", "-c", "echo '# of the hospital' >> /etc/emrctl/home/inventory/hosts.yaml")
    assert f" -> {newer.stem}" in server.play(options=("--check",), control_plane_release=str(newer))
    assert server.health()["version"] == "0.1.0"
    server.play(control_plane_release=str(newer))
    assert server.health()["version"] == "0.1.1"
    assert server.links() >= links
    assert "# of the hospital" in server.inside("tail", "-n1", "/etc/emrctl/home/inventory/hosts.yaml")

    links = server.links()
    keeping = (ROOT / "controlplane" / "cli" / "keeping.py").read_text(encoding="utf-8")
    broken = keeping.replace("    s = p.settings\n", "    " + BROKEN + "    s = p.settings\n")
    assert broken != keeping
    worse = remade(release, "0.1.2", {"controlplane/cli/keeping.py": broken.encode()})
    said = server.play(code=2, control_plane_release=str(worse))
    assert "0.1.2" in said
    assert "did not answer" in said
    assert "this release does not start" in said
    assert server.health()["version"] == "0.1.1"
    assert server.links() >= links

    assert f"{newer.stem} -> " in server.play(options=("--check",), control_plane_rollback=True)
    assert server.health()["version"] == "0.1.1"
    server.play(control_plane_rollback=True)
    assert server.health()["version"] == "0.1.0"
    assert server.links() >= links
    again = server.play(control_plane_rollback=True)
    assert changed(again) == 0, "there is nothing further to go back to"


@pytest.mark.soak
def test_a_release_that_was_altered_on_the_way_is_refused(server: Server, release: Path) -> None:
    before = server.inside("readlink", "/opt/emrctl/current")
    altered = release.with_name("emr-control-plane-9.9.9-000000000000.tar")
    altered.write_bytes(release.read_bytes().replace(b"emrctl", b"emrctI", 1))
    assert "did NOT match" in server.play(code=2, control_plane_release=str(altered))
    assert server.inside("readlink", "/opt/emrctl/current") == before
    assert server.health()["ok"]
