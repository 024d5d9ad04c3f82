"""A copy of the store: whole at one moment while others write, brought up to date, refused where it would do harm."""

import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from controlplane.store.archive import Archive, open_engine
from controlplane.store.copies import CopyError, save_copy, walk_copy
from controlplane.store.vault import Vault
from tests.conftest import Clock


@pytest.fixture
def store(archive: Archive, tmp_path: Path, clock: Clock) -> Path:
    """The folder of a store with a key, a secret and three links."""
    for folder, name in (("keys", "signing.pem"), ("secrets", "switches")):
        (tmp_path / folder).mkdir(mode=0o700)
        (tmp_path / folder / name).write_text(f"{name} of the hospital\n")
    (tmp_path / "known_hosts").write_text("sv-01 ssh-ed25519 AAAA\n")
    for number in range(3):
        archive.append("note", {"number": number}, clock())
    return tmp_path


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere") / "copy"


def opened(copy: Path) -> Archive:
    return Archive(open_engine(f"sqlite:///{copy / 'emrctl.db'}"), Vault(copy / "vault"), copy / "locks")


def test_a_copy_holds_everything_and_only_its_owner_may_read_it(archive: Archive, store: Path, place: Path) -> None:
    made = save_copy(archive, store, place)
    assert (made["links"], made["added"]) == (3, 3)
    assert made["head"] == archive.head().seal
    copied = opened(place)
    assert [copied.body(link) for link in copied.chain("note")] == [{"number": n} for n in range(3)]
    for name in ("keys/signing.pem", "secrets/switches", "known_hosts"):
        assert (place / name).read_bytes() == (store / name).read_bytes()
    for path in (place, *place.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_second_copy_writes_what_is_new_and_forgets_a_secret_that_went(
    archive: Archive, store: Path, place: Path, clock: Clock
) -> None:
    save_copy(archive, store, place)
    archive.append("note", {"number": 3}, clock())
    (store / "secrets/switches").unlink()
    made = save_copy(archive, store, place)
    assert (made["links"], made["added"]) == (4, 1)
    assert list((place / "secrets").iterdir()) == []


def test_a_copy_made_while_others_write_is_whole(archive: Archive, store: Path, place: Path, clock: Clock) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 100
        while not stop.is_set():
            archive.append("note", {"number": number}, clock())
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [save_copy(archive, store, place)["links"] for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    assert seen == sorted(seen)
    assert seen[0] >= 3
    assert walk_copy(place)["links"] == seen[-1]


def test_a_damaged_store_gives_no_copy_that_is_called_good(
    archive: Archive, store: Path, place: Path, clock: Clock
) -> None:
    link = archive.append("note", {"number": 9}, clock())
    (store / "vault" / link.digest[:2] / link.digest[2:]).write_bytes(b"other bytes")
    with pytest.raises(CopyError) as refused:
        save_copy(archive, store, place)
    assert (refused.value.code, refused.value.figures["seq"]) == ("broken", link.seq)


@pytest.mark.parametrize("where", [".", "inside", ".."])
def test_a_copy_inside_the_store_or_around_it_is_refused(archive: Archive, store: Path, where: str) -> None:
    with pytest.raises(CopyError, match="inside"):
        save_copy(archive, store, (store / where).resolve())


def test_a_folder_with_other_things_is_left_alone(archive: Archive, store: Path, place: Path) -> None:
    place.mkdir()
    (place / "thesis.txt").write_text("mine")
    with pytest.raises(CopyError, match="foreign"):
        save_copy(archive, store, place)
    assert [path.name for path in place.iterdir()] == ["thesis.txt"]


def test_an_earlier_copy_with_a_journal_of_its_own_is_replaced_whole(
    archive: Archive, store: Path, place: Path
) -> None:
    """Somebody looked into the copy: SQLite left its journal beside it, whose pages belong to the old file."""
    save_copy(archive, store, place)
    with opened(place).engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM links")).scalar() == 3
        (place / "emrctl.db-wal").write_bytes(b"\0" * 4096)
        made = save_copy(archive, store, place)
    assert made["links"] == 3
