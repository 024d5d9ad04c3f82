"""The database server and its rights: PostgreSQL's settings, who may connect from where, and rights against a matrix.

psql connects as the account that asks, by peer authentication over the local socket: a database role of that name
with ``pg_monitor`` and the right to read ``pg_hba_file_rules`` is enough. No password, no superuser, no table's rows.
"""

from __future__ import annotations

from typing import Any

from controlplane.collect.facts.linux_text import NEVER, lines, part, whole
from controlplane.domain.model import Fact

MATRIX = "/etc/emrctl/access"
"""Where the approved matrix of rights stands: one ``SYSTEM.tsv`` per system, first line ``# approved_at SECONDS``."""

EXPORTS = "/var/lib/emrctl/access"
"""Where applications put their own exports of roles and rights, in the same form with ``# exported_at SECONDS``."""

_WIDE = frozenset({"all", "0.0.0.0", "::", "samenet"})  # noqa: S104  # words of pg_hba.conf, nothing is bound
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost", "samehost"})
_WEAK = frozenset({"trust", "password", "ident", "md5"})


def _pairs(text: str) -> dict[str, str]:
    found = {}
    for line in lines(text):
        key, sign, value = line.partition("|")
        if not sign:
            raise ValueError("not a pair of psql")
        found[key] = value
    return found


def read_postgres(text: str) -> dict[str, Any]:
    """Settings of the server that protect it, in the state it runs with now, and the state of its standby."""
    settings, databases = part(text, "settings", "databases")
    found = _pairs(settings)
    if "server_version_num" not in found:
        raise ValueError("no settings of PostgreSQL")
    kinds = _classes(databases)
    statements = found.get("log_statement", "none")
    return {
        "version": whole(found["server_version_num"]) // 10_000,
        "checksums": found.get("data_checksums") == "on",
        "checksum_failures": whole(found.get("checksum_failures") or "0"),
        "tls": found.get("ssl") == "on",
        "scram": found.get("password_encryption") == "scram-sha-256",
        "log_connections": found.get("log_connections", "off") not in ("off", ""),
        "audited": (
            "pgaudit" in found.get("shared_preload_libraries", "") and found.get("pgaudit.log", "none") != "none"
        )
        or statements in ("mod", "all"),
        "superusers": whole(found.get("superusers", "0")),
        "standby": found.get("in_recovery") == "t",
        "replicas": whole(found.get("replicas", "0")),
        # Both halves of a pair: a standby has nobody behind it, and if it no longer follows the other half says so.
        "paired": found.get("in_recovery") == "t" or whole(found.get("replicas", "0")) > 0,
        "replica_behind": whole(found.get("replica_behind", "0")),
        **kinds,
    }


def _classes(text: str) -> dict[str, Any]:
    """Sensitivity of each database by the word ``class=`` of its comment; more than one class is a mixed server."""
    found: dict[str, str] = {}
    for line in lines(text):
        name, sign, kind = line.partition("|")
        if not sign:
            raise ValueError("not a database and its class")
        found[name] = kind
    classes = {kind for kind in found.values() if kind}
    return {
        "databases": len(found),
        "unclassified": sum(not kind for kind in found.values()) if found else None,
        "classes": sorted(classes),
        "mixed": len(classes) > 1 if found else None,
    }


def read_access(text: str) -> dict[str, Any]:
    """Lines of pg_hba.conf as the server reads them: those that are too weak or too wide, over the network."""
    rules = [line.split("|") for line in lines(text)]
    if not rules or not all(len(rule) == 6 for rule in rules):
        raise ValueError("not the rules of pg_hba_file_rules")
    remote = [r for r in rules if r[0] != "local" and r[3] not in _LOCAL and r[4] != "reject"]
    return {
        "rules": len(rules),
        "remote": len(remote),
        "trust": sum(r[4] == "trust" for r in rules),
        "weak": sum(r[4] in _WEAK for r in remote),
        "wide": sum(r[3] in _WIDE for r in remote),
        "plain": sum(r[0] != "hostssl" for r in remote),
        "every_database": sum("all" in r[1].split(",") for r in remote),
        "errors": sum(r[5] not in ("", "f") for r in rules),
    }


def _matrices(text: str) -> dict[str, tuple[int | None, set[str]]]:
    """System -> (when it was approved or exported, its lines ``role TAB object TAB rights``)."""
    found: dict[str, tuple[int | None, set[str]]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("== "):
            name = line[3:].strip()
            found[name] = (None, set())
        elif line.startswith(("# approved_at ", "# exported_at ")) and name:
            found[name] = (whole("".join(line.split()[2:3])), found[name][1])
        elif line.strip() and not line.startswith("#"):
            cells = line.split("\t")
            if not name or len(cells) != 3:
                raise ValueError("not a line of a matrix of rights")
            found[name][1].add("\t".join([*cells[:2], ",".join(sorted(cells[2].split(",")))]))
    return found


def read_matrix(text: str) -> dict[str, Any]:
    """Rights that stand in the database and in the applications, against the matrix that was approved.

    ``differs`` counts lines that are in one of the two alone. A system whose rights are known and that has no
    matrix, or the other way round, is ``unmatched``.
    """
    now, approved, database, exported = part(text, "now", "approved", "database", "exported")
    seconds, wanted, real = whole(now), _matrices(approved), _matrices(exported)
    ages = [at for at, _ in wanted.values()]
    exports = [at for at, _ in real.values()]
    applications = sorted(real)
    if database.strip():
        real["database"] = (seconds, _matrices("== database\n" + database)["database"][1])
    both = wanted.keys() & real.keys()
    return {
        "systems": len(both),
        "applications": len(set(applications) & both),
        "database": "database" in both,
        "unmatched": len(wanted.keys() ^ real.keys()),
        "differs": sum(len(wanted[name][1] ^ real[name][1]) for name in both),
        "approved_days": max((_days(seconds, at) for at in ages), default=NEVER),
        "export_days": max((_days(seconds, at) for at in exports), default=NEVER),
    }


def _days(now: int, then: int | None) -> int:
    return NEVER if then is None else max((now - then) // 86_400, 0)


_THERE = (
    "[ -d /var/lib/postgresql ] && command -v psql >/dev/null || exit 69; "
    "export PGCONNECT_TIMEOUT=3 PGOPTIONS='-c default_transaction_read_only=on -c statement_timeout=4000'; "
    "psql -XAtwq -d postgres -c 'SELECT 1' >/dev/null || exit 77; "
)
_SETTINGS = (
    "SELECT name || '|' || setting FROM pg_settings WHERE name IN ('server_version_num','data_checksums','ssl',"
    "'password_encryption','log_connections','log_statement','shared_preload_libraries','pgaudit.log') "
    "UNION ALL SELECT 'checksum_failures|' || coalesce(sum(checksum_failures), 0) FROM pg_stat_database "
    "UNION ALL SELECT 'superusers|' || count(*) FROM pg_roles WHERE rolsuper AND rolcanlogin "
    "UNION ALL SELECT 'in_recovery|' || CASE WHEN pg_is_in_recovery() THEN 't' ELSE 'f' END "
    "UNION ALL SELECT 'replicas|' || count(*) FROM pg_stat_replication WHERE state = 'streaming' "
    "UNION ALL SELECT 'replica_behind|' || count(*) FROM pg_stat_replication "
    "WHERE state != 'streaming' OR interval '5 minutes' < replay_lag"
)
_CLASSES = (
    "SELECT datname || '|' || coalesce(substring(shobj_description(oid, 'pg_database') from 'class=([a-z0-9-]+)'), '') "
    "FROM pg_database WHERE NOT datistemplate AND datname != 'postgres' ORDER BY 1"
)
_HBA = (
    "SELECT type || '|' || array_to_string(database, ',') || '|' || array_to_string(user_name, ',') || '|' || "
    "coalesce(address, '') || '|' || coalesce(auth_method, '') || '|' || "
    "CASE WHEN error IS NULL THEN '' ELSE 'error' END FROM pg_hba_file_rules"
)
_GRANTS = (
    "SELECT r.rolname || E'\\t' || current_database() || '.' || n.nspname || '.' || "
    "CASE c.relkind WHEN 'S' THEN 'sequences' ELSE 'tables' END || E'\\t' || "
    "string_agg(DISTINCT a.privilege_type, ',' ORDER BY a.privilege_type) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL "
    "aclexplode(coalesce(c.relacl, CASE c.relkind WHEN 'S' THEN acldefault('s', c.relowner) "
    "ELSE acldefault('r', c.relowner) END)) a "
    "JOIN (SELECT oid, rolname FROM pg_roles UNION ALL SELECT 0, 'PUBLIC') r ON r.oid = a.grantee "
    "WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname != 'information_schema' AND "
    "c.relkind IN ('r','p','v','m','f','S') "
    "GROUP BY r.rolname, n.nspname, c.relkind = 'S', c.relkind ORDER BY 1"
)
_NAMES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
_PSQL = "psql -XAtwq -d"
_FILES = 'for f in {0}/*.tsv; do [ -r "$f" ] || continue; n=${{f##*/}}; echo "== ${{n%.tsv}}"; cat "$f"; done'

FACTS: tuple[Fact, ...] = (
    Fact(
        "database.postgres",
        "shell",
        f"{_THERE}echo '-- settings'; psql -XAtwq -d postgres -c \"{_SETTINGS}\" || exit $?; "
        f"echo '-- databases'; psql -XAtwq -d postgres -c \"{_CLASSES}\"",
        read_postgres,
        "databases, replicas, failures",
        "PostgreSQL pg_settings, pg_stat_database, pg_stat_replication, COMMENT ON DATABASE",
    ),
    Fact(
        "database.access",
        "shell",
        f'{_THERE}psql -XAtwq -d postgres -c "{_HBA}"',
        read_access,
        "rules",
        "PostgreSQL pg_hba_file_rules",
    ),
    Fact(
        "database.matrix",
        "shell",
        f"{_THERE}echo '-- now'; date +%s; echo '-- approved'; {_FILES.format(MATRIX)}; echo '-- database'; "
        f'for d in $({_PSQL} postgres -c \'{_NAMES}\'); do {_PSQL} "$d" -c "{_GRANTS}" || exit 77; done; '
        f"echo '-- exported'; {_FILES.format(EXPORTS)}; true",
        read_matrix,
        "lines of the matrix, days",
        "PostgreSQL aclexplode, pg_class.relacl; docs/reference/backup-state.md",
        keep_raw=False,
    ),
)
