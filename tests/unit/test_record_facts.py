"""Derived facts decide as they should: the silent never count as good, an empty register never proves."""

import json
import subprocess

import pytest

from controlplane.collect.facts import FACTS
from controlplane.collect.facts.record_text import version_fits

TODAY = "2026-11-26"
AT = "2026-11-26T05:00:00.000000Z"


def asset(name, kind="workstation", roles=("workstations",), department="", address="192.0.2.1", **fields):
    return {
        "name": name,
        "kind": kind,
        "roles": list(roles),
        "department": department,
        "address": address,
        "fields": fields,
    }


def answers(**by_asset):
    """Answers given this hour."""
    return [{"asset": name, "age_hours": 0, "value": value} for name, value in by_asset.items()]


def read(fact, **document):
    """The value of a fact for these inputs."""
    return FACTS[fact].reader(json.dumps({"asset": "site", "at": AT, "today": TODAY} | document))


# ---------------------------------------------------------------------------------------------- software


def software(rows=(), reviewed="2026-11-01", dependencies=True, exceptions=(), **lists):
    return {
        "reviewed_on": reviewed,
        "base": {"priorities": ["required"], "dependencies": dependencies},
        "software": [{"scope": ["workstations"], "version": "any", "support_until": None} | row for row in rows],
        "runtimes": lists.get("runtimes", []),
        "browsers": lists.get("browsers", []),
        "mail_clients": [],
        "exceptions": list(exceptions),
    }


PACKAGES = {
    "required": ["dpkg 1.21"],
    "important": [],
    "standard": [],
    "chosen": ["anydesk 6.1", "chromium 120", "nodejs 18"],
    "dependencies": ["libx 1"],
    "loose": ["/opt/viewer"],
}


def compare(register):
    inputs = {"packages.list": {"value": PACKAGES}}
    return read("software.exceptions", inputs=inputs, registers={"software": register}, inventory=asset("pc-01"))


def test_installed_minus_approved_is_what_is_left():
    value = compare(software([{"name": "chromium"}, {"name": "/opt/viewer"}]))
    assert (value["compared"], value["unapproved"]) == (True, ["anydesk", "nodejs"])
    assert compare(software([{"name": "chromium"}], dependencies=False))["unapproved"][-1] == "nodejs"
    assert "libx" in compare(software([{"name": "chromium"}], dependencies=False))["unapproved"]


def test_an_approval_holds_for_its_scope_its_version_and_its_support():
    good = {"name": "anydesk"}
    for change, approved in (
        ({}, True),
        ({"scope": ["pc-01"]}, True),
        ({"scope": ["servers"]}, False),
        ({"version": ">= 7"}, False),
        ({"version": ">= 6.1"}, True),
        ({"support_until": "2026-11-25"}, False),
        ({"support_until": TODAY}, True),
    ):
        found = compare(software([good | change, {"name": "chromium"}]))
        assert ("anydesk" not in found["unapproved"]) is approved, change


def test_an_exception_counts_until_its_day_and_is_overdue_after_it():
    row = {"name": "anydesk", "scope": ["pc-01"], "reason": "a"}
    early = compare(software([{"name": "chromium"}], exceptions=[row | {"remove_by": TODAY}]))
    late = compare(software([{"name": "chromium"}], exceptions=[row | {"remove_by": "2026-11-25"}]))
    assert ("anydesk" in early["unapproved"], early["overdue_count"]) == (False, 0)
    assert ("anydesk" in late["unapproved"], late["overdue"]) == (True, ["anydesk"])


def test_runtimes_and_browsers_must_be_on_their_lists():
    value = compare(software([{"name": "*x"}, {"name": "chromium"}], runtimes=["nodejs"], browsers=["firefox*"]))
    assert (value["runtimes_unapproved_count"], value["web_unapproved"]) == (0, ["chromium"])
    assert compare(software([{"name": "chromium"}]))["web_unapproved_count"] is None


@pytest.mark.parametrize("register", [software(), software([{"name": "*"}], reviewed=None)])
def test_an_empty_or_unadopted_register_gives_no_figure(register):
    value = compare(register)
    assert value["compared"] is False
    assert {key: v for key, v in value.items() if key.endswith("_count") and v is not None} == {}


VERSIONS = [
    "1.0",
    "1.0-1",
    "1.0~rc1",
    "1.0+b1",
    "1:0.9",
    "1.0-1+deb12u2",
    "1.10",
    "1.9",
    "1.0a",
    "2.0.0-3",
    "9.2p1-2",
    "0",
]


def test_versions_are_ordered_as_dpkg_orders_them():
    for one in VERSIONS:
        for other in VERSIONS:
            argv = ["dpkg", "--compare-versions", one, "ge", other]
            truth = subprocess.run(argv, check=False).returncode == 0
            assert version_fits(f">= {other}", one) is truth, (one, other)


# ---------------------------------------------------------------------------------------------- accounts

LOCAL = [
    {"account": "root", "login": True, "admin": True},
    {"account": "daemon", "login": False, "admin": False},
    {"account": "khoa-duoc", "login": True, "admin": False},
]
ROW = {"owner": "a", "department": "b", "enabled_on": "2025-08-15", "disabled_on": None, "scope": ["workstations"]}


def accounts(rows, local=LOCAL, reviewed="2026-11-01", leavers=(), left_reviewed="2026-11-20"):
    register = {"reviewed_on": reviewed, "system": [{"account": "daemon"}], "accounts": rows, "without": []}
    lists = {"accounts": register, "leavers": {"reviewed_on": left_reviewed, "leavers": list(leavers)}}
    return read(
        "accounts.exceptions",
        inputs={"accounts.list": {"value": {"accounts": local}}},
        registers=lists,
        inventory=asset("pc-01"),
    )


BOTH = [ROW | {"account": "root", "type": "admin"}, ROW | {"account": "khoa-duoc", "type": "operator"}]


def test_an_account_without_a_row_is_unlisted_and_a_system_account_with_a_shell_too():
    assert accounts(BOTH)["unlisted_count"] == 0
    assert accounts(BOTH[:1])["unlisted"] == ["khoa-duoc"]
    with_shell = [{"account": "daemon", "login": True, "admin": False}]
    assert accounts(BOTH, with_shell)["unlisted"] == ["daemon"]


def test_types_fields_closing_days_and_leavers():
    assert accounts([BOTH[0] | {"type": "operator"}, BOTH[1]])["mistyped"] == ["root"]
    assert accounts([BOTH[0], BOTH[1] | {"enabled_on": None}])["incomplete"] == ["khoa-duoc"]
    assert accounts([BOTH[0], BOTH[1] | {"disabled_on": TODAY}])["closed_but_open"] == ["khoa-duoc"]
    assert accounts([BOTH[0], BOTH[1] | {"disabled_on": "2026-11-27"}])["closed_but_open_count"] == 0
    gone = [{"account": "khoa-duoc", "left_on": "2026-11-15"}]
    assert accounts(BOTH, leavers=gone)["leavers_open"] == ["khoa-duoc"]
    assert accounts(BOTH, leavers=[gone[0] | {"left_on": "2026-12-15"}])["leavers_open_count"] == 0


def test_an_unreviewed_register_or_list_of_leavers_gives_no_figure():
    assert accounts(BOTH, reviewed=None)["unlisted_count"] is None
    assert accounts(BOTH, left_reviewed=None)["leavers_open_count"] is None
    assert accounts([])["unlisted_count"] is None


def sharing(logins, rows=(), unanswered=()):
    register = {"reviewed_on": None, "system": [], "accounts": list(rows), "without": []}
    return read(
        "accounts.shared",
        inventory=[asset("pc-01"), asset("pc-02"), asset("pc-03")],
        inputs={"accounts.sessions": answers(**{name: {"logins": rows} for name, rows in logins.items()})},
        unanswered={"accounts.sessions": list(unanswered)},
        registers={"accounts": register},
    )


def login(begun, ended, account="tiep-don"):
    return {"account": account, "from": f"2026-11-26T{begun}Z", "to": ended and f"2026-11-26T{ended}Z"}


def test_one_account_on_two_machines_at_once_is_found_unless_approved():
    both = {"pc-01": [login("01:00", "02:00")], "pc-02": [login("01:30", None)]}
    assert sharing(both)["concurrent"] == ["tiep-don"]
    assert sharing(both, [{"account": "tiep-don", "type": "operator", "shared": "a reason"}])["concurrent_count"] == 0
    assert sharing({"pc-01": [login("01:00", "02:00")], "pc-02": [login("01:58", "03:00")]})["concurrent_count"] == 0
    assert sharing({"pc-01": [login("01:00", "02:00"), login("01:10", "02:00")]})["concurrent_count"] == 0


def test_while_a_machine_is_silent_nobody_found_is_no_figure():
    assert sharing({"pc-01": []}, unanswered=["pc-02"])["concurrent_count"] is None
    both = {"pc-01": [login("01:00", "02:00")], "pc-02": [login("01:30", None)]}
    assert sharing(both, unanswered=["pc-03"])["concurrent_count"] == 1


# ------------------------------------------------------------------------------------------------ assets


def strangers(learned, known=None, silent=(), seen=(), assets=None):
    return read(
        "assets.strangers",
        inventory=assets
        or [asset("sw-01", "switch", ()), asset("sw-02", "switch", ()), asset("pc-01", mac="02:00:00:00:00:01")],
        vlans={"vlans": [{"id": 20}, {"id": 80, "guests": True}]},
        seen=dict.fromkeys(seen, 1),
        inputs={
            "vlan.learned": answers(**learned),
            "net.interfaces": answers(**(known or {})),
            "device.mac_addresses": [],
        },
        unanswered={"vlan.learned": list(silent), "net.interfaces": [], "device.mac_addresses": []},
    )


def row(mac, vlans=(20,)):
    return {"mac": mac, "port": "gi0/1", "vlans": list(vlans)}


def test_a_mac_that_no_asset_owns_is_a_stranger_outside_guest_vlans():
    value = strangers(
        {"sw-01": [row("02:00:00:00:00:01"), row("02:00:00:00:00:99")], "sw-02": []}, seen=["sw-01", "sw-02"]
    )
    assert (value["swept"], value["unknown"], value["unseen"]) == (True, ["02:00:00:00:00:99 sw-01 gi0/1"], [])
    guest = strangers({"sw-01": [row("02:00:00:00:00:99", [80])], "sw-02": []})
    assert guest["unknown_count"] == 0
    observed = {"pc-01": [{"interface": "eth0", "mac": "02:00:00:00:00:99"}]}
    assert strangers({"sw-01": [row("02:00:00:00:00:99")], "sw-02": []}, observed)["unknown_count"] == 0


def test_a_silent_switch_leaves_the_sweep_undone_and_no_stranger_no_figure():
    half = strangers({"sw-01": [row("02:00:00:00:00:01")]}, silent=["sw-02"])
    assert (half["swept"], half["unknown_count"]) == (False, None)
    assert strangers({"sw-01": [row("02:00:00:00:00:99")]}, silent=["sw-02"])["unknown_count"] == 1
    nobody = strangers({}, silent=["sw-01", "sw-02"])
    assert (nobody["swept"], nobody["unknown_count"], nobody["unseen_count"]) == (None, None, None)


def test_every_field_counts_and_a_device_may_give_its_own_serial_number():
    full = dict.fromkeys(("owner", "purpose", "location", "vlan", "state", "support_until"), "a")
    none = {"net.interfaces": [], "device.mac_addresses": [], "printer.serial": []}
    assets = [asset("pc-01", **full | {"state": "in_use"}), asset("pc-02", state="retired")]
    for serial, count in ((answers(**{"pc-01": "X1"}), 0), ([], 1)):
        inputs = none | {"host.serial": serial}
        assert read("assets.fields", inventory=assets, inputs=inputs)["incomplete_count"] == count


def test_a_class_is_stated_by_an_asset_or_a_confirmation_of_this_year():
    absent = [{"class": "ups", "confirmed_on": "2026-01-01"}, {"class": "nas", "confirmed_on": "2025-01-01"}]
    value = read("assets.coverage", inventory=[asset("pc-01")], registers={"assets": {"absent": absent}})
    assert not {"workstation", "ups"} & set(value["unstated"])
    assert "nas" in value["unstated"]


def test_an_asset_that_nobody_marked_is_neither_watched_nor_left_out():
    marked = [asset("pc-01", watched="true"), asset("pc-02", watched="false"), asset("pc-04", state="retired")]
    inputs = {name: [] for name in ("net.interfaces", "device.mac_addresses", "host.serial", "printer.serial")}
    for assets, count in ((marked, 0), ([*marked, asset("pc-03")], 1), ([], None)):
        assert read("assets.fields", inventory=assets, inputs=inputs)["unmarked_count"] == count


def test_a_new_asset_was_looked_at_before_it_went_into_service():
    first = {"kernel.switches": {"pc-01": "2026-11-01T00:00:00Z", "pc-02": "2026-11-20T00:00:00Z"}, "device.vendor": {}}
    on = {"pc-01": "2025-01-01", "pc-02": "2026-11-19", "pc-03": "2026-11-22"}
    assets = [asset(name, in_service_on=day) for name, day in on.items()] + [asset("pc-04")]
    value = read("assets.hardened", inventory=assets, first=first)
    assert (value["older"], value["judged"], value["late"], value["undated"]) == (1, 2, ["pc-02", "pc-03"], ["pc-04"])
    assert read("assets.hardened", inventory=assets[:1], first=first)["late_count"] is None


def test_a_share_has_no_figure_while_the_silent_could_decide_it():
    pcs = [asset(f"pc-{n}", department=f"d{n % 4}") for n in range(8)]
    for seen, percent in ((8, 80), (5, 50), (4, None)):
        value = read("assets.counts", inventory=pcs, hospital={"staff": 10}, seen={f"pc-{n}": 1 for n in range(seen)})
        assert value["pcs_per_staff_percent"] == percent, seen
    few = read("assets.counts", inventory=pcs, hospital={"staff": 48}, seen={})
    assert few["pcs_per_staff_percent"] == 0, "even all of them would be too few"
    assert few["servers_answered"] is None


# ----------------------------------------------------------------------------------------------- network


def host(fact, observed, value, registers, **more):
    return read(fact, inputs={observed: {"value": value}}, registers=registers, inventory=asset("pc-01"), **more)


def test_ports_resolvers_and_remote_tools_against_their_registers():
    listening = {"tcp": [22, 5432], "udp": [161]}
    ports = {"ports": [{"role": "workstations", "port": "tcp/22"}, {"role": "servers", "port": "tcp/5432"}]}
    assert host("ports.exceptions", "net.listening", listening, {"ports": ports})["unapproved"] == [
        "tcp/5432",
        "udp/161",
    ]
    empty = host("ports.exceptions", "net.listening", {"tcp": [], "udp": []}, {"ports": {"ports": []}})
    assert empty["unapproved_count"] is None
    dns = {"resolvers": [{"address": "192.0.2.53"}]}
    for servers, count in ((["192.0.2.53"], 0), (["192.0.2.53", "192.0.2.8"], 1), ([], None)):
        value = host("dns.exceptions", "net.dns", {"servers": servers}, {"resolvers": dns})
        assert value["unapproved_count"] == count
    assert (
        host("dns.exceptions", "net.dns", {"servers": []}, {"resolvers": {"resolvers": []}})["unapproved_count"] is None
    )
    for reviewed, count in (("2026-11-01", 1), (None, None)):
        tools = {"remote_tools": {"reviewed_on": reviewed, "tools": []}}
        value = host("remote.exceptions", "packages.remote-control", {"packages": ["anydesk"]}, tools)
        assert value["unapproved_count"] == count


def test_zones_are_those_that_a_core_switch_carries():
    plan = {"vlans": [{"id": 10, "zone": "server"}, {"id": 20, "zone": "internal"}, {"id": 90, "zone": "dmz"}]}
    core = asset("sw-01", "switch", ("core_switches",))
    seen = answers(**{"sw-01": {"vlans": [{"vlan": 1}, {"vlan": 10}, {"vlan": 20}, {"vlan": 77}]}})
    value = read(
        "network.zones", inventory=[core], vlans=plan, inputs={"vlan.list": seen}, unanswered={"vlan.list": []}
    )
    assert (value["missing"], value["unplanned"]) == (["VLAN 90"], ["VLAN 77"])
    assert value["zones_missing"] == ["dmz", "perimeter"]
    none = read(
        "network.zones", inventory=[core], vlans=plan, inputs={"vlan.list": []}, unanswered={"vlan.list": ["sw-01"]}
    )
    assert none["zones_missing_count"] is None


def test_a_server_among_workstations_is_mixed():
    plan = {"vlans": [{"id": 10, "zone": "server"}, {"id": 20, "zone": "internal"}]}
    assets = [asset("sv-01", "server", vlan="20"), asset("pc-01", vlan="10"), asset("pc-02", vlan="20"), asset("pc-03")]
    value = read("network.separation", inventory=assets, vlans=plan)
    assert (value["mixed"], value["unplaced"]) == (["pc-01", "sv-01"], ["pc-03"])


def databases(rows, listening, silent=(), reviewed="2026-11-01"):
    return read(
        "databases.instances",
        inventory=[asset("sv-01", "server"), asset("sv-02", "server"), asset("pc-01")],
        inputs={"net.listening": answers(**{name: {"databases": ports} for name, ports in listening.items()})},
        unanswered={"net.listening": list(silent)},
        registers={"databases": {"reviewed_on": reviewed, "databases": rows}},
    )


def test_a_database_with_two_classes_of_data_is_shared_and_one_that_nobody_listed_is_named():
    his = {"host": "sv-01", "port": "tcp/5432", "class": "sensitive"}
    both = {"sv-01": [5432], "sv-02": [], "pc-01": []}
    good = databases([his], both)
    assert (good["shared_count"], good["unlisted_count"]) == (0, 0)
    assert databases([his, his | {"class": "ordinary"}], both)["shared"] == ["sv-01 5432"]
    assert databases([his], both | {"pc-01": [3306]})["unlisted"] == ["pc-01 3306"]
    assert databases([his], {"sv-01": [5432]}, ["sv-02", "pc-01"])["shared_count"] is None
    assert databases([his], {"sv-01": [5432], "sv-02": []}, ["pc-01"])["shared_count"] == 0
    assert databases([his], both, reviewed="2025-01-01")["unlisted_count"] is None
    assert databases([], {"sv-01": [], "sv-02": []})["shared_count"] is None, "an empty register proves nothing"


def rounds(*minutes, only=()):
    at = [f"2026-11-26T{m // 60:02}:{m % 60:02}:00Z" for m in minutes]
    return [{"id": str(n), "state": "done", "at": when, "only": list(only)} for n, when in enumerate(at)]


def test_the_gap_between_whole_rounds_leaves_narrow_ones_out():
    seen, assets = {"pc-01": 1, "pc-02": 30}, [asset("pc-01"), asset("pc-02"), asset("pc-03", state="broken")]
    value = read(
        "watch.answers", inventory=assets, seen=seen, rounds=rounds(0, 60, 120, 180) + rounds(61, 62, only=["a"])
    )
    assert (value["gap_minutes"], value["answered_percent"], value["silent"]) == (60, 50, ["pc-02"])
    assert read("watch.answers", inventory=assets, seen=seen, rounds=rounds(0, 4, 8, 12))["gap_minutes"] == 5
    assert read("watch.answers", inventory=assets, seen={}, rounds=[])["answered_percent"] is None


CHANGE = {"asset": "sv-01", "fact": "ssh.config", "since": "2026-11-26T03:00:00Z", "not_after": "2026-11-26T02:00:00Z"}


def run(begun, ended, hosts=("sv-01",), mode="apply", state="successful"):
    stamps = {"started_at": f"2026-11-26T{begun}:00Z", "ended_at": ended and f"2026-11-26T{ended}:00Z"}
    return {"mode": mode, "state": state, "hosts": list(hosts)} | stamps


@pytest.mark.parametrize(
    ("runs", "untracked"),
    [
        ([], 1),
        ([run("02:30", "02:40")], 0),
        ([run("02:59", None, state="running")], 0),
        ([run("02:30", "02:40", ["pc-01"])], 1),
        ([run("02:30", "02:40", mode="preview")], 1),
        ([run("02:30", "02:40", state="interrupted")], 1),
        ([run("00:30", "01:40")], 1),
        ([run("03:30", "03:40")], 1),
    ],
)
def test_a_change_outside_every_applied_play_is_untracked(runs, untracked):
    value = read(
        "watch.changes",
        inventory=[asset("sv-01", "server")],
        runs=runs,
        seen={"sv-01": 1},
        changes={"ssh.config": [CHANGE]},
    )
    assert value["untracked_count"] == untracked


def test_no_change_seen_on_a_silent_server_is_no_figure():
    assets = [asset("sv-01", "server"), asset("sw-01", "switch")]
    value = read("watch.changes", inventory=assets, runs=[], seen={"sv-01": 1}, changes={"ssh.config": []})
    assert (value["untracked_count"], value["unwatched"]) == (None, 1)


# ----------------------------------------------------------------------------------------------- rehearsals


def drills(*rows, repositories=("nas",), source=None, reviewed_on=None):
    """Two data sets of the register, and what was rehearsed of them."""
    kept = {"repository": "nas", "database": False, "ok": True, "error": "", "rpo_seconds": 60, "rto_seconds": 9}
    kept |= {"hashes_verified": 6, "hashes_wrong": 0, "tables": 0, "tables_wrong": 0, "rows": 0}
    sets = [
        {"name": name, "class": class_, "repositories": list(repositories), "rpo_minutes": 60, "source": source}
        for name, class_ in (("emr", "database"), ("images", "files"))
    ]
    given = [kept | {"link": number, "at": "2026-11-20T03:00:00Z"} | row for number, row in enumerate(rows)]
    return read(
        "backup.drills",
        drills=given,
        registers={"backups": {"datasets": sets, "repositories": [], "reviewed_on": reviewed_on}},
    )


QUERIED = {"dataset": "emr", "database": True, "tables": 2, "rows": 9}


@pytest.mark.parametrize(
    ("rows", "overdue", "failed"),
    [
        ([], None, None),
        ([{"dataset": "images", "ok": False, "error": "no_room"}], None, None),  # not tried
        ([{"dataset": "elsewhere"}], None, None),
        ([{"dataset": "images"}], ["emr"], []),
        ([{"dataset": "images"}, QUERIED], [], []),
        ([{"dataset": "images"}, QUERIED | {"database": False, "tables": 0}], ["emr"], []),  # hashed, not queried
        ([{"dataset": "images", "at": "2026-08-01T03:00:00Z"}, QUERIED], ["images"], []),
        ([{"dataset": "images"}, QUERIED, QUERIED | {"ok": False, "error": "damaged"}], [], ["emr"]),
        ([{"dataset": "images"}, QUERIED | {"ok": False, "error": "damaged"}, QUERIED], [], []),
    ],
)
def test_a_rehearsal_counts_when_it_was_tried_whole_and_in_time(rows, overdue, failed):
    found = drills(*rows)
    assert found["overdue_count"] == (None if overdue is None else len(overdue))
    assert found["failed_count"] == (None if failed is None else len(failed))
    if overdue is not None:
        assert (found["overdue"], found["failed"]) == (overdue, failed)


def test_what_a_command_dumped_is_proven_by_hashes_and_what_is_out_of_reach_is_not_late():
    rows = [{"dataset": "images"}, QUERIED | {"database": False, "tables": 0}]
    assert drills(*rows)["overdue"] == ["emr"]
    assert drills(*rows, source="command:/usr/local/sbin/dump-his")["overdue_count"] == 0
    assert drills(repositories=())["overdue_count"] is None, "nobody adopted the register"
    dumped = drills(repositories=(), reviewed_on="2026-11-01", source="command:/usr/local/sbin/dump-his")
    assert (dumped["overdue_count"], dumped["failed_count"]) == (0, 0)
    alone = drills(repositories=(), reviewed_on="2026-11-01")
    assert (alone["overdue_count"], alone["failed_count"]) == (None, None), "a host's own drill queries no database"


def test_of_nothing_in_reach_nothing_is_proven():
    found = drills({"dataset": "images"}, QUERIED, repositories=())
    assert (found["in_reach"], found["overdue_count"], found["failed_count"]) == (0, None, None)
