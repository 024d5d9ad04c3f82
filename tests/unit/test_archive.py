"""The record: append-only, rebuilt identically, as of any day, whole after a kill. Real SQLite, real files."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.domain.chain import Break, canonical
from controlplane.domain.model import Outcome, Verdict
from controlplane.rounds import make_round
from controlplane.store.archive import NEWEST, Archive, ArchiveError, BusyError, migrate, open_engine
from controlplane.store.tables import links, looks, metadata, observations, rounds
from controlplane.store.vault import Vault, VaultError
from tests.conftest import NOON, ROOT, Clock, a_catalog, a_check, a_criterion, a_framework, a_look, an_asset

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
CATALOG = a_catalog([a_check()], a_framework(a_criterion()))


def walk(archive, clock, values, asset="sv-01"):
    """One round in which ``asset`` answers ``values``."""

    def gather(_targets):
        return [a_look(asset, values, clock())]

    return make_round(CATALOG, {asset: an_asset(asset)}, "0" * 64, gather, archive, clock, ZONE)


def dump(archive):
    tables = (rounds, looks, observations)
    with archive.engine.connect() as connection:
        rows = {}
        for table in tables:
            columns = [c for c in table.c if not (table is looks and c.name == "id")]
            rows[table.name] = sorted(map(repr, connection.execute(sa.select(*columns)).all()))
        return rows


def test_a_round_is_kept_and_can_be_read_back(archive, clock):
    kept = walk(archive, clock, {"disk.used_percent": 91})
    card, findings = archive.sealed(kept.id)
    assert (kept.state, kept.looks) == ("done", {"answered": 1})
    assert [f.verdict for f in findings] == [Verdict.NOT_MET]
    assert card.criteria[0].verdict is Verdict.NOT_MET
    assert archive.vault.get(findings[0].raw_digest) == b"91"
    assert archive.first_break(bodies=True) is None


def test_the_same_answer_extends_its_interval_and_another_begins_one(archive, clock):
    walk(archive, clock, {"disk.used_percent": 40})
    clock.pass_(hours=1)
    walk(archive, clock, {"disk.used_percent": 40})
    (first,) = archive.history("sv-01", "disk.used_percent")
    assert (first.first_seen_at, first.seen_at) == (NOON, NOON + timedelta(hours=1))
    clock.pass_(hours=1)
    walk(archive, clock, {"disk.used_percent": 50})
    assert [o.value for o in archive.history("sv-01", "disk.used_percent")] == [50, 40]


def test_a_day_without_change_adds_no_observation(archive, clock):
    for _ in range(24):
        walk(archive, clock, {"disk.used_percent": 40, "cpu.count": 2})
        clock.pass_(hours=1)
    with archive.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(observations)).scalar() == 2


def test_an_answer_after_a_failed_look_begins_a_new_interval(archive, clock):
    walk(archive, clock, {"disk.used_percent": 40})
    clock.pass_(hours=1)
    walk(archive, clock, {"disk.used_percent": Outcome.UNREACHABLE})
    seen = archive.state()["sv-01", "disk.used_percent"]
    assert (seen.answer.value, seen.failure.outcome) == (40, Outcome.UNREACHABLE)
    clock.pass_(hours=1)
    walk(archive, clock, {"disk.used_percent": 40})
    assert archive.state()["sv-01", "disk.used_percent"].failure is None
    answers = [o for o in archive.history("sv-01", "disk.used_percent") if o.outcome is Outcome.ANSWERED]
    assert len(answers) == 2


def test_links_refuse_update_and_delete(archive, clock):
    walk(archive, clock, {"disk.used_percent": 40})
    for statement in (links.update().values(kind="edited"), links.delete()):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"), archive.engine.begin() as connection:
            connection.execute(statement)


def test_an_edited_body_is_named(archive, clock):
    walk(archive, clock, {"disk.used_percent": 40})
    link = list(archive.chain())[1]
    path = archive.vault._path(link.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert archive.first_break() is None
    assert archive.first_break(bodies=True) == Break(link.seq, "body")


def test_a_clock_set_back_does_not_break_the_chain(archive, clock):
    walk(archive, clock, {"disk.used_percent": 40})
    clock.pass_(hours=-5)
    walk(archive, clock, {"disk.used_percent": 41})
    assert archive.first_break() is None


FACTS = ("disk.used_percent", "cpu.count", "os.release")
steps = st.lists(
    st.tuples(
        st.sampled_from(["sv-01", "pc-01"]),
        st.dictionaries(
            st.sampled_from(FACTS),
            st.integers(0, 2) | st.sampled_from([Outcome.UNREACHABLE, Outcome.NOT_SUPPORTED, Outcome.GARBLED]),
            min_size=1,
        ),
        st.sampled_from([30, 3600, 90000]),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_the_index_rebuilt_from_the_record_is_identical_and_any_past_moment_is_seen_as_it_was(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("store")
    engine = open_engine(f"sqlite:///{folder / 'emrctl.db'}")
    migrate(engine)
    archive, clock = Archive(engine, Vault(folder / "vault"), folder / "locks"), Clock()
    stood = []
    for asset, values, seconds in steps:
        # A look asks every fact of its family, so every fact has an outcome in it.
        walk(archive, clock, dict.fromkeys(FACTS, Outcome.NOT_SUPPORTED) | values, asset)
        stood.append((clock(), archive.state()))
        clock.pass_(seconds=seconds)
    for at, state in stood:
        assert archive.state(at) == state
    before = dump(archive)
    archive.reindex()
    assert dump(archive) == before
    assert archive.first_break(bodies=True) is None
    engine.dispose()


def test_rebuilding_from_a_damaged_record_changes_nothing(archive, clock):
    walk(archive, clock, {"disk.used_percent": 40})
    before = dump(archive)
    archive.vault._path(list(archive.chain())[1].digest).unlink()
    with pytest.raises(VaultError):
        archive.reindex()
    assert dump(archive) == before


def test_two_rounds_at_once_are_refused(archive, clock):
    with archive.lock("round"), pytest.raises(BusyError):
        walk(archive, clock, {"disk.used_percent": 40})


def test_many_writers_at_once_make_one_unbroken_chain(archive):
    def write(number):
        return [archive.append("export", {"by": number, "n": n}, NOON).seq for n in range(20)]

    with ThreadPoolExecutor(6) as pool:
        seqs = [seq for part in pool.map(write, range(6)) for seq in part]
    assert sorted(seqs) == list(range(1, 121))
    assert archive.first_break(bodies=True) is None


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.test_archive import *
folder, when = Path(sys.argv[1]), sys.argv[2]
engine = open_engine(f"sqlite:///{folder / 'emrctl.db'}")
migrate(engine)
archive, clock = Archive(engine, Vault(folder / "vault"), folder / "locks"), Clock()
walk(archive, clock, {"disk.used_percent": 40})
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def gather(_targets):
    yield a_look("sv-01", {"disk.used_percent": 41}, clock())
    if when == "gather":
        die()
if when == "link":
    Archive._link_before = Archive._link
    Archive._link = lambda self, c, kind, *rest: die() if kind == "round" else self._link_before(c, kind, *rest)
if when == "commit":
    import controlplane.store.index as module
    module._index_changed = die
make_round(CATALOG, {"sv-01": an_asset()}, "0" * 64, gather, archive, clock, ZONE)
"""


@pytest.mark.parametrize("when", ["gather", "link", "commit"])
def test_a_kill_in_the_middle_of_a_round_loses_nothing(tmp_path, when):
    argv = [sys.executable, "-c", KILLED, str(tmp_path), when]
    died = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    engine = open_engine(f"sqlite:///{tmp_path / 'emrctl.db'}")
    migrate(engine)
    archive, clock = Archive(engine, Vault(tmp_path / "vault"), tmp_path / "locks"), Clock()
    assert len(archive.close_abandoned(clock())) == 1
    assert archive.close_abandoned(clock()) == []
    assert [r.state for r in archive.rounds()] == ["interrupted", "done"]
    assert archive.first_break(bodies=True) is None
    assert archive.state()["sv-01", "disk.used_percent"].answer.value == 40
    assert walk(archive, clock, {"disk.used_percent": 41}).state == "done"
    engine.dispose()


def test_a_round_under_way_in_another_process_is_not_taken_for_dead(archive, clock):
    archive.open_round("r1", clock(), [], "0" * 64, "0" * 64)
    code = f"""
import fcntl, sys, time
f = open({str(archive.lock_folder / "round.lock")!r}, "w")
fcntl.flock(f, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(30)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert archive.close_abandoned(clock()) == []
    finally:
        holder.kill()
        holder.communicate()
    deadline = time.monotonic() + 5
    while not (closed := archive.close_abandoned(clock())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert closed == ["r1"]


def test_the_migrations_make_the_tables_that_the_code_asks_for(archive):
    found = sa.MetaData()
    found.reflect(archive.engine)
    for name, table in metadata.tables.items():
        assert {c.name: c.nullable for c in found.tables[name].c} == {c.name: c.nullable for c in table.c}
        assert {i.name for i in found.tables[name].indexes} == {i.name for i in table.indexes}


def test_the_newest_migration_is_alembics_head_and_a_newer_store_is_refused(archive):
    config = Config()
    config.set_main_option("script_location", str(ROOT / "controlplane" / "store" / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == NEWEST
    with archive.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ArchiveError, match="cannot be opened"):
        migrate(archive.engine)


def test_a_file_that_is_no_store_is_refused_in_words(tmp_path):
    (tmp_path / "emrctl.db").write_bytes(b"not a database" * 100)
    engine = open_engine(f"sqlite:///{tmp_path / 'emrctl.db'}")
    with pytest.raises(ArchiveError, match="cannot be opened"):
        migrate(engine)
    engine.dispose()


def test_the_vault_hands_out_no_other_bytes_than_the_name_says(tmp_path):
    vault = Vault(tmp_path / "vault")
    name = vault.put("mức 2".encode())
    assert vault.put("mức 2".encode()) == name
    assert vault.get(name).decode() == "mức 2"
    assert list(vault.names()) == [name]
    other = vault.put(b"other")
    os.replace(vault._path(other), vault._path(name))  # noqa: PTH105
    with pytest.raises(VaultError, match="other bytes"):
        vault.get(name)
    for bad in ("0" * 64, "../etc/passwd", "Z" * 64):
        with pytest.raises(VaultError):
            vault.get(bad)


def test_bodies_are_canonical_json(archive, clock):
    walk(archive, clock, {"disk.used_percent": 40})
    for link in archive.chain():
        data = archive.vault.get(link.digest)
        assert canonical(json.loads(data)) == data
