"""Backups: the record that the backup job keeps, its timers, and what the backup storage itself holds.

The record is a folder of small JSON files, one for each repository and each data set; docs/reference/backup-state.md
describes them. Ages become counts of what is too old, so that a figure stands still while all is well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from controlplane.collect.facts.linux_text import lines, part, parts, table, whole
from controlplane.domain.model import Fact

STATE = "/var/lib/emrctl/backup"
"""Where the backup job keeps its record on the host whose data it saves."""

CHECK_DAYS = 7
DRILL_DAYS = {"database": 30, "files": 90}
SPOT_DAYS = 8
"""A weekly look that was made up a day late is not late."""

GRACE_HOURS = 2
"""A daily snapshot that starts a little later than yesterday is not late."""

PRODUCTION_MEDIUM = "server-disk"
"""What the data itself lies on; the first of the three copies and the first of the two media."""

_FAR = ("offsite", "offline")
Document = dict[str, Any]


def _documents(text: str) -> tuple[list[Document], list[Document]]:
    """The repositories and the data sets of the record, one JSON object a line."""
    found: dict[str, list[Document]] = {"repository": [], "dataset": []}
    for line in lines(text):
        document = table(line)
        if not isinstance(document, dict) or document.get("format") != 1 or document.get("kind") not in found:
            raise ValueError("not a document of the backup record")
        found[str(document["kind"])].append(document)
    return found["repository"], found["dataset"]


def _at(document: Document, key: str) -> int | None:
    """Seconds since 1970, or None when it never happened."""
    value = document.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"{key} is not a time")
    return value


def _name(document: Document) -> str:
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a document without a name")
    return name


def _snapshots(dataset: Document) -> list[Document]:
    found = dataset.get("snapshots") or []
    if not isinstance(found, list) or not all(isinstance(s, dict) for s in found):
        raise ValueError("snapshots that are not a list of objects")
    return found


def _within(now: int, then: int | None, seconds: int) -> bool:
    return then is not None and now - then <= seconds


def _every_hours(dataset: Document) -> int | None:
    hours = dataset.get("every_hours")
    return hours if isinstance(hours, int) and not isinstance(hours, bool) and 0 < hours <= 24 * 366 else None


def _holding(now: int, dataset: Document, repositories: dict[str, Document]) -> list[Document]:
    """The repositories that hold a snapshot of this data set as young as its declared frequency asks."""
    hours = _every_hours(dataset) or 24
    fresh = {
        str(s.get("repository"))
        for s in _snapshots(dataset)
        if _within(now, _at(s, "at"), (hours + GRACE_HOURS) * 3600)
    }
    return [repositories[name] for name in sorted(fresh) if name in repositories]


def _count(of: Iterable[bool]) -> int:
    return sum(1 for one in of if one)


def read_state(text: str) -> dict[str, Any]:
    """Repositories and data sets of the backup record, and how many of each fall short of the rule.

    ``copies``, ``media`` and ``far_copies`` are those of the data set that has the fewest; the data itself counts as
    one copy on one medium. Of no data set and of no repository there are no figures: nothing is not "none too few".
    """
    now, state = part(text, "now", "state")
    seconds = whole(now)
    repositories, datasets = _documents(state)
    named = {_name(repository): repository for repository in repositories}
    held = {_name(dataset): _holding(seconds, dataset, named) for dataset in datasets}
    media = [{PRODUCTION_MEDIUM, *(str(r.get("medium")) for r in found)} for found in held.values()]
    return {
        "repositories": len(repositories),
        "datasets": len(datasets),
        **_known(repositories, _repository_figures(seconds, repositories)),
        **_known(datasets, _dataset_figures(datasets, held, media)),
        **_known(datasets, _drill_figures(seconds, datasets)),
        **_known(datasets, _rpo_figures(seconds, datasets)),
    }


def _known(of: list[Document], figures: dict[str, Any]) -> dict[str, Any]:
    return figures if of else dict.fromkeys(figures)


def _dataset_figures(
    datasets: list[Document], held: dict[str, list[Document]], media: list[set[str]]
) -> dict[str, Any]:
    return {
        "without_frequency": _count(_every_hours(dataset) is None for dataset in datasets),
        "late": sorted(name for name, found in held.items() if not found),
        "late_count": _count(not found for found in held.values()),
        "copies": min((1 + len(found) for found in held.values()), default=None),
        "media": min((len(kinds) for kinds in media), default=None),
        "far_copies": min((_far(found) for found in held.values()), default=None),
        "unversioned": _count(not _versions(dataset) for dataset in datasets),
    }


def _rpo_figures(now: int, datasets: list[Document]) -> dict[str, Any]:
    """Which data sets would lose more than they may, were they lost now. Where none is declared there is no figure."""
    spans = {_name(dataset): _span(dataset) for dataset in datasets}
    newest = {
        _name(dataset): max((at for s in _snapshots(dataset) if (at := _at(s, "at")) is not None), default=None)
        for dataset in datasets
    }
    missed = sorted(name for name, span in spans.items() if span and not _within(now, newest[name], span * 60))
    undeclared = _count(span is None for span in spans.values())
    return {
        "names": sorted(spans),
        "without_rpo": undeclared,
        "rpo_missed": missed,
        "rpo_missed_count": len(missed) if undeclared < len(spans) else None,
    }


def _span(dataset: Document) -> int | None:
    minutes = dataset.get("rpo_minutes")
    return minutes if isinstance(minutes, int) and not isinstance(minutes, bool) and minutes > 0 else None


def _far(repositories: list[Document]) -> int:
    return _count(any(repository.get(word) is True for word in _FAR) for repository in repositories)


def _versions(dataset: Document) -> bool:
    """Whether at least two identified snapshots of the data set are kept in one repository."""
    return any(
        isinstance(s.get("kept"), int) and s["kept"] >= 2 and re.fullmatch(r"[0-9a-f]{8,64}", str(s.get("id")))
        for s in _snapshots(dataset)
    )


def _repository_figures(now: int, repositories: list[Document]) -> dict[str, int]:
    week = CHECK_DAYS * 86_400
    return {
        "unencrypted": _count(r.get("encrypted") is not True for r in repositories),
        "erasable": _count(r.get("append_only") is not True and r.get("offline") is not True for r in repositories),
        "deletion_untested": _count(
            not _within(now, _at(r, "last_delete_refused_at"), 90 * 86_400) and r.get("offline") is not True
            for r in repositories
        ),
        "unchecked": _count(
            r.get("last_check_ok") is not True or not _within(now, _at(r, "last_check_at"), week) for r in repositories
        ),
        "data_unread": _count(not _read_percent(r) for r in repositories),
        "on_same_host": _count(r.get("same_host") is not False for r in repositories),
    }


def _read_percent(repository: Document) -> bool:
    """Whether the last check read some of the data itself and not the index alone."""
    percent = repository.get("check_read_percent")
    return isinstance(percent, int | float) and not isinstance(percent, bool) and percent > 0


def _drill_figures(now: int, datasets: list[Document]) -> dict[str, Any]:
    late, failed, slowest = 0, 0, 0
    for dataset in datasets:
        drill = dataset.get("last_drill")
        if not isinstance(drill, dict):
            late += 1
            continue
        days = DRILL_DAYS.get(str(dataset.get("class")), min(DRILL_DAYS.values()))
        late += not _within(now, _at(drill, "at"), days * 86_400)
        verified, wrong = _whole(drill, "hashes_verified"), _whole(drill, "hashes_wrong")
        failed += drill.get("ok") is not True or wrong > 0 or verified == 0
        slowest = max(slowest, _whole(drill, "rto_seconds"))
    return {"drills_late": late, "drills_failed": failed, "slowest_restore_seconds": slowest}


def _whole(document: Document, key: str) -> int:
    value = document.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**12:
        raise ValueError(f"{key} is not a count")
    return value


def read_spots(text: str) -> dict[str, Any]:
    """How the last comparison of every data set of folders with its archive ended, by the job's own record.

    ``alarms`` are data sets of which many files changed and some look encrypted. A host that saves no folder has no
    figures; a data set that was never compared counts as not agreeing.
    """
    now, state = part(text, "now", "state")
    seconds = whole(now)
    _, datasets = _documents(state)
    spots = {_name(d): d.get("last_spot") for d in datasets if str(d.get("source")).startswith("path:")}
    unlike, alarms, late = [], [], []
    for name, spot in sorted(spots.items()):
        if not isinstance(spot, dict) or not _within(seconds, _at(spot, "at"), SPOT_DAYS * 86_400):
            late.append(name)
        elif spot.get("ok") is not True:
            unlike.append(name)
        if isinstance(spot, dict) and spot.get("alarm") is True:
            alarms.append(name)
    figures = {
        "late": late,
        "unlike": unlike,
        "alarms": alarms,
        "not_agreeing_count": len({*late, *unlike, *alarms}),
    }
    return {"datasets": len(spots), **_known([{}] * len(spots), figures)}


def read_coverage(text: str) -> dict[str, Any]:
    """Databases of this host and places that hold its data, and those of them that no data set of the record names.

    The files of a running server are no backup of its databases, so no path covers those.
    """
    state, databases, places = part(text, "state", "databases", "places")
    mariadb = parts(text).get("mariadb", "")  # replies of earlier versions have no such section
    _, datasets = _documents(state)
    sources = {str(dataset.get("source")) for dataset in datasets}
    paths = [source.removeprefix("path:").rstrip("/") for source in sources if source.startswith("path:")]
    wanted = [f"postgresql:{name}" for name in lines(databases)]
    wanted += [f"mariadb:{_folder_name(name)}" for name in lines(mariadb)]
    missing = [source for source in wanted if source not in sources]
    for place in lines(places):
        if not place.startswith("/"):
            raise ValueError("not a place")
        wanted.append(place)
        if place == "/var/lib/mysql" or not any(_below(place, path) or _below(path, place) for path in paths):
            missing.append(f"path:{place}")
    return {
        "to_save": len(wanted),
        "uncovered": sorted(missing),
        "uncovered_count": len(missing) if wanted else None,
    }


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _folder_name(folder: str) -> str:
    """The name of a database from that of its folder, where MariaDB writes any odd letter as @ and its number."""
    return re.sub(r"@([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), folder)


def read_jobs(text: str) -> dict[str, Any]:
    """Timers of backup jobs, and how the last run of each ended: failed, never ran, or not within 26 hours."""
    now, timers, cron, services = part(text, "now", "timers", "cron", "services")
    seconds = whole(now)
    names = [line.removesuffix(".timer") for line in lines(timers)]
    failed, silent = [], []
    for block in re.split(r"\n\s*\n", services.strip()):
        found = dict(line.split("=", 1) for line in lines(block) if "=" in line)
        if not found:
            continue
        name = found.get("Id", "").removesuffix(".service")
        if found.get("Result") != "success" or found.get("ExecMainStatus") != "0":
            failed.append(name)
        if not _within(seconds, _ended(found.get("ExecMainExitTimestamp", "")), 26 * 3600):
            silent.append(name)
    return {
        "timers": len(names),
        "cron_jobs": len(lines(cron)),
        "failed": len(failed),
        "silent": len(silent),
        "automatic": bool(names) and not failed and not silent,
        "units": sorted(names),
    }


def _ended(text: str) -> int | None:
    """``@1764194123`` as systemctl prints it with --timestamp=unix; empty when the job never ran."""
    return whole(text.removeprefix("@")) if text.strip() not in ("", "@0", "0", "n/a") else None


def read_vault(text: str) -> dict[str, Any]:
    """What a backup storage holds, by its own files: restic and borg repositories, their snapshots and writers.

    ``stale`` are repositories without a snapshot of the last 26 hours, ``append_only`` whether every program that
    takes snapshots in refuses to delete. Where no repository is seen (or may be read) there are no figures.
    """
    now, restic, borg, writers = part(text, "now", "restic", "borg", "writers")
    seconds, counts, stale = whole(now), [], 0
    for line in lines(restic):
        cells = line.split(" ", 2)
        if len(cells) != 3:
            raise ValueError("not a line about a repository")
        counts.append(whole(cells[0]))
        stale += not _within(seconds, whole(cells[1]), 26 * 3600)
    closed = plain = 0
    for line in lines(borg):
        append, keys, at = (whole(cell) for cell in line.split(" ", 3)[:3])
        closed, plain = closed + (append > 0), plain + (keys == 0)
        stale += not _within(seconds, at, 26 * 3600)
    running = lines(writers)
    servers = [line for line in running if re.search(r"\b(rest-server|rclone serve restic|borg serve)\b", line)]
    open_ones = [line for line in servers if "--append-only" not in line]
    total = len(counts) + len(lines(borg))
    return {
        "repositories": total,
        "stale": stale if total else None,
        "fewest_snapshots": min(counts, default=None),
        "unencrypted": plain if total else None,
        "writers": len(servers),
        "append_only": None if not servers else not open_ones,
    }


def read_raid_alert(text: str) -> dict[str, Any]:
    """Whether somebody is told when a disk of an array fails: by mdadm's monitor, by zed or through an exporter.

    Debian's own MAILADDR is root, whose mailbox on the machine nobody may open: only an address elsewhere counts.
    """
    conf, running = part(text, "conf", "running")
    addressed = re.search(r"^\s*(MAILADDR\s+set\b|PROGRAM\s+\S)", conf, re.MULTILINE) is not None
    monitor = re.search(r"\bmdadm\b.*(--monitor|-F|--follow)", running) is not None
    exporter = re.search(r"node[_-]exporter", running) is not None
    zed = re.search(r"(^|/)zed\b", running, re.MULTILINE) is not None
    return {
        "mail": addressed,
        "monitor": monitor,
        "exporter": exporter,
        "watched": (monitor and addressed) or exporter or zed,
    }


# A file that is not one line is put on one; the record is no secret, and root may keep it to a group of its own.
_STATE = f'for f in {STATE}/*.json; do [ -r "$f" ] && {{ tr -d "\\n" <"$f"; echo; }}; done'
# A server that does not answer must not look like a server without a database.
_DATABASES = (
    "if [ -d /var/lib/postgresql ] && command -v psql >/dev/null; then PGCONNECT_TIMEOUT=3 psql -XAtwq -d postgres -c "
    "\"SELECT datname FROM pg_database WHERE NOT datistemplate AND datname != 'postgres' ORDER BY 1\" || exit 77; fi"
)
# Every database has a folder, whose name may be seen without any right in the server.
_MARIADB = (
    'for d in /var/lib/mysql/*/; do [ -d "$d" ] && basename "$d"; done '
    "| grep -vxE 'mysql|performance_schema|sys|information_schema|lost[+]found|#.*'"
)
_UNITS = "'^[A-Za-z0-9@_.-]*(restic|borg|sao-luu|backup)[A-Za-z0-9@_.-]*[.]timer$'"

FACTS: tuple[Fact, ...] = (
    Fact(
        "backup.state",
        "shell",
        f"[ ! -d {STATE} ] || [ -r {STATE} ] || exit 77; echo '-- now'; date +%s; echo '-- state'; {_STATE}; true",
        read_state,
        "data sets, repositories, copies; seconds of the slowest restore",
        "docs/reference/backup-state.md",
    ),
    Fact(
        "backup.spots",
        "shell",
        f"[ ! -d {STATE} ] || [ -r {STATE} ] || exit 77; echo '-- now'; date +%s; echo '-- state'; {_STATE}; true",
        read_spots,
        "data sets of folders",
        "docs/reference/backup-state.md",
    ),
    Fact(
        "backup.coverage",
        "shell",
        f"[ ! -d {STATE} ] || [ -r {STATE} ] || exit 77; echo '-- state'; {_STATE}; "
        f"echo '-- databases'; {_DATABASES}; echo '-- mariadb'; {_MARIADB}; echo '-- places'; "
        "for d in /srv/* /var/lib/orthanc /home/*/du-lieu; do "
        '[ -d "$d" ] && [ -n "$(ls -A "$d" 2>/dev/null | head -n 1)" ] && echo "$d"; done; true',
        read_coverage,
        "databases and places",
        "docs/reference/backup-state.md, pg_database",
    ),
    Fact(
        "backup.jobs",
        "shell",
        "command -v systemctl >/dev/null || exit 69; echo '-- now'; date +%s; echo '-- timers'; "
        f"u=$(ls /etc/systemd/system/timers.target.wants 2>/dev/null | grep -iE {_UNITS} "
        "| grep -vx dpkg-db-backup.timer); "
        '[ -n "$u" ] && echo "$u"; echo \'-- cron\'; '
        "grep -hsE '^[^#]*(restic|borg) ' /etc/crontab /etc/cron.d/* | cut -d ' ' -f 1-5; echo '-- services'; "
        'for t in $u; do systemctl show "${t%.timer}.service" --timestamp=unix '
        "-p Id -p Result -p ExecMainStatus -p ExecMainExitTimestamp; echo; done; true",
        read_jobs,
        "timers, jobs",
        "systemd.timer(5), systemctl(1) show",
    ),
    Fact(
        "backup.vault",
        "shell",
        "echo '-- now'; date +%s; echo '-- restic'; "
        "for c in $(find /srv /mnt /backup /volume* -maxdepth 4 -type f -name config 2>/dev/null | head -n 40); do "
        'd=${c%/config}; [ -d "$d/snapshots" ] && [ -d "$d/keys" ] || continue; '
        'echo "$(ls "$d/snapshots" | wc -l) $(stat -c %Y "$d/snapshots") $d"; done; echo \'-- borg\'; '
        "for c in $(find /srv /mnt /backup /volume* -maxdepth 4 -type f -name config 2>/dev/null | head -n 40); do "
        'grep -qs "^\\[repository\\]" "$c" || continue; '
        'echo "$(grep -c "^append_only = 1" "$c") $(grep -cE "^key = " "$c") $(stat -c %Y "${c%/config}") x"; done; '
        "echo '-- writers'; ps -eo args= | grep -E '^[^ ]*(rest-server|rclone serve restic|borg serve)' "
        "| sed -E 's/(--htpasswd|--user|--pass)[= ][^ ]+/\\1/g'; true",
        read_vault,
        "repositories, snapshots",
        "restic repository format, borg(1), ps(1)",
    ),
    Fact(
        "storage.raid-alert",
        "shell",
        "echo '-- conf'; grep -hsE '^[[:space:]]*(MAILADDR|PROGRAM)' /etc/mdadm/mdadm.conf /etc/mdadm.conf "
        "| sed -E 's/(MAILADDR[[:space:]]+)[^@]*$/\\1local/; s/(MAILADDR[[:space:]]+).*@.*/\\1set/'; "
        "echo '-- running'; ps -eo args= | grep -E '^[^ ]*(mdadm|zed|node[_-]exporter)' | cut -c 1-200; true",
        read_raid_alert,
        "-",
        "mdadm(8) --monitor, mdadm.conf(5), ps(1)",
    ),
)
