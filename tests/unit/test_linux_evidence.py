"""The readers behind the proving checks, on the cases that one recorded machine does not show."""

from __future__ import annotations

import json

import pytest

from controlplane.collect.facts import FACTS
from controlplane.collect.facts.linux_text import NEVER


def read(name: str, **sections: str):
    return FACTS[name].reader("".join(f"-- {key}\n{body}\n" for key, body in sections.items()))


def test_a_hash_that_is_not_strong_is_counted():
    assert read("accounts.hashes", states="L\nP\nP\nNP", strong="1") == {"with_password": 2, "strong": 1, "weak": 1}
    with pytest.raises(ValueError, match="states"):
        read("accounts.hashes", states="quantri P 2026-11-26", strong="1")


ACCOUNTS = "root:0:/bin/bash\nquantri:1000:/bin/bash\nnv01:1001:/bin/bash\nsao-luu:998:/bin/sh"


def ages(statuses: str, last: str = "Username Port From Latest", inactive: str = "INACTIVE=30"):
    return read(
        "accounts.ages",
        today="2026-11-26",
        accounts=ACCOUNTS,
        groups="sudo:x:27:quantri",
        statuses=statuses,
        useradd=inactive,
        last=last,
    )


def test_ages_of_passwords_tell_limits_overruns_and_first_passwords():
    found = ages("root L 2026-01-01 0 99999 7 -1\nquantri P 2026-11-01 0 60 7 -1\nnv01 P 2026-01-01 0 90 7 -1")
    assert found["longest_days"] == 90
    assert found["admin_longest_days"] == 60
    assert found["overdue"] == 1
    assert found["first_password_kept"] == 2  # nobody has logged in, and neither must change
    used = "Username Port From Latest\nnv01 pts/0 192.0.2.1 Thu Nov 26 08:00:00 +0000 2026"
    forced = ages("quantri P 1970-01-01 0 60 7 -1\nnv01 P 2026-11-01 0 90 7 -1", used)
    assert forced["first_password_kept"] == 0
    assert forced["overdue"] == 0


def test_no_limit_is_never():
    found = ages("quantri P 2026-11-01 0 99999 7 -1", inactive="")
    assert found["admin_longest_days"] == NEVER
    assert found["auto_disable_days"] == NEVER


def test_power_beside_the_administrators_is_seen():
    found = read(
        "accounts.powers",
        accounts=ACCOUNTS,
        groups="sudo:x:27:quantri,sao-luu",
        strong="docker:x:999:nv01,sao-luu",
        desktop="quantri\nnv01",
    )
    assert found == {"admins": 2, "root_equal": 1, "service_admins": 1, "desktop_admins": 1}
    forgets = read("accounts.powers", accounts=ACCOUNTS, groups="sudo:x:27:quantri", strong="", desktop="?")
    assert forgets["desktop_admins"] is None


def test_a_built_in_account_counts_only_while_it_can_log_in():
    accounts = "root:0:/bin/bash\nubuntu:1000:/bin/bash\nguest:1001:/usr/sbin/nologin\ntest:1002:/bin/bash"
    statuses = "ubuntu P 2026-11-01 0 90 7 -1\nguest P 2026-11-01 0 90 7 -1\ntest L 2026-11-01 0 90 7 -1"
    assert read("accounts.built-in", accounts=accounts, statuses=statuses) == {"built_in": 3, "enabled": 1}


SSHD = "usepam yes\npasswordauthentication no\nkbdinteractiveauthentication yes\n"
OTP = "auth required pam_google_authenticator.so"


def factor(sshd: str, ssh_pam: str = OTP, pam: str = "", matches: str = "", enrolled: str = ""):
    return read(
        "accounts.second-factor",
        sshd=sshd,
        matches=matches,
        ssh_pam=ssh_pam,
        pam=pam,
        groups="sudo:x:27:quantri",
        accounts=ACCOUNTS,
        enrolled=enrolled,
    )


def test_a_key_and_then_a_code_are_two_factors():
    both = SSHD + "authenticationmethods publickey,keyboard-interactive"
    found = factor(both, enrolled="/home/quantri/.google_authenticator")
    assert found["ssh_two_factors"]
    assert found["admins_without"] == 0
    assert not found["console_two_factors"]
    assert factor(both)["admins_without"] == 1
    assert not factor(both, ssh_pam=OTP + " nullok")["ssh_two_factors"]  # who has no code may pass
    assert not factor(both, ssh_pam="")["ssh_two_factors"]
    assert not factor(both, ssh_pam=OTP.replace("required", "[success=1 default=ignore]"))["ssh_two_factors"]
    assert not factor(both, ssh_pam="auth sufficient pam_unix.so\n" + OTP)["ssh_two_factors"]
    assert factor(both, ssh_pam="", pam=OTP)["console_two_factors"]


@pytest.mark.parametrize("methods", ["any", "publickey", "publickey,keyboard-interactive publickey"])
def test_one_way_in_with_one_factor_is_not_two(methods: str):
    found = factor(f"{SSHD}authenticationmethods {methods}")
    assert (found["ssh_two_factors"], found["admins_without"]) == (False, 2)  # root is without, too


def test_a_match_block_may_exempt_the_reading_account_and_nobody_else():
    both = SSHD + "authenticationmethods publickey,keyboard-interactive"
    for who, exempt in (("User emrread", 0), ("User root", 1), ("User quantri,nv01", 1), ("Group nhom", 1), ("all", 1)):
        found = factor(both, matches=f"Match {who}\n AuthenticationMethods publickey")
        assert found["exempt"] == exempt, who
        assert found["ssh_two_factors"] is (exempt == 0)
    assert factor(both, matches="Match User root\n AuthenticationMethods publickey,keyboard-interactive")["exempt"] == 0


def test_hardware_keys_with_a_pin_alone_are_two_factors():
    hardware = (
        "usepam yes\npasswordauthentication no\nkbdinteractiveauthentication no\nauthenticationmethods any\n"
        "pubkeyauthoptions verify-required\npubkeyacceptedalgorithms sk-ssh-ed25519@openssh.com"
    )
    assert factor(hardware, ssh_pam="")["ssh_two_factors"]
    assert not factor(hardware + ",ssh-ed25519", ssh_pam="")["ssh_two_factors"]
    assert not factor(hardware.replace("verify-required", "none"), ssh_pam="")["ssh_two_factors"]


def test_where_enrolment_is_kept_elsewhere_there_is_no_figure():
    both = SSHD + "authenticationmethods publickey,keyboard-interactive"
    assert factor(both, ssh_pam="auth required pam_radius_auth.so")["admins_without"] is None
    assert factor(both, ssh_pam="auth required pam_privacyidea.so")["admins_without"] is None


def coverage(rules: str, **more: str):
    sections = {"rules": rules, "upload": "", "audisp": "", "security": "clamd syslog", "folders": ""} | more
    return read("log.coverage", **sections)


def test_what_a_selector_leaves_out_is_missing():
    assert coverage("*.* @@192.0.2.10:514")["access"]
    assert coverage("auth,authpriv.* @@192.0.2.10")["access"]
    assert coverage("auth,authpriv.* @@192.0.2.10")["missing"] == [
        "application",
        "process",
        "security_alert",
        "software",
    ]
    assert not coverage("*.*;auth,authpriv.none @@192.0.2.10:514")["access"]
    assert not coverage("*.err @@192.0.2.10:514")["access"]
    assert not coverage("*.* @@127.0.0.1:514")["access"]  # the machine itself is no central place
    assert coverage("", upload="URL=https://192.0.2.10:19532")["access"]


def test_an_action_inside_a_condition_does_not_send_everything():
    action = 'action(type="omfwd" target="192.0.2.10" protocol="tcp")'
    assert coverage(action)["access"]
    assert not coverage("if $programname == 'sudo' then {\n" + action + "\n}")["access"]
    assert not coverage("if $programname == 'sudo' then\n" + action)["access"]


def test_a_program_with_files_of_its_own_must_be_read():
    rule = '*.* action(type="omfwd"\n target="192.0.2.10" port="514"\n protocol="tcp")'
    assert not coverage(rule, folders="/var/log/nginx")["application"]
    read_too = 'input(type="imfile" File="/var/log/nginx/access.log" Tag="nginx")\n' + rule
    assert coverage(read_too, folders="/var/log/nginx")["application"]
    assert not coverage(rule, security="clamd /var/log/clamav/clamav.log")["security_alert"]
    assert not coverage(rule, security="")["security_alert"]  # nothing that could raise one
    assert coverage(rule, audisp="/etc/audit/plugins.d/syslog.conf:active = yes")["process"]
    assert not coverage(rule, audisp="/etc/audit/plugins.d/syslog.conf:active = no")["process"]


def shipping(**more: str):
    sections = {
        "now": "1795730900",
        "rules": "*.* @@192.0.2.10:514",
        "upload": "",
        "state": "",
        "peers": "",
        "backlog": "",
    }
    return read("log.shipping", **(sections | more))


def test_a_log_arrives_only_over_a_connection_that_stands():
    assert shipping(peers="192.0.2.10:514")["alive"] is True
    assert shipping()["alive"] is False
    assert shipping(peers="127.0.0.1:514")["alive"] is False
    assert shipping(peers="192.0.2.10:514", backlog="/var/spool/rsyslog/central.00000001")["alive"] is False
    assert shipping(rules="*.* @192.0.2.10:514")["alive"] is None  # UDP tells nobody
    assert shipping(rules="*.* @@192.0.2.10:7777", peers="192.0.2.10:7777")["alive"] is None
    assert shipping(rules="")["alive"] is False


def test_journal_upload_tells_by_its_own_mark():
    day = 86_400
    address = "URL=https://192.0.2.10:19532"
    for age, alive in ((3600, True), (2 * day, False)):
        found = shipping(rules="", upload=address, state=str(1795730900 - age))
        assert found["alive"] is alive
        assert found["sent_hours"] == age // 3600
    assert shipping(rules="", upload=address)["alive"] is False
    assert shipping(rules="", upload="URL=http://localhost:19532", state="1795730900")["targets"] == 0


def test_room_for_logs_is_what_the_pace_says():
    sections = {"today": "2026-11-26", "used": "300 /var/log", "free": "2700", "oldest": "2026-11-16"}
    assert read("log.room", **sections) == {"oldest_days": 10, "covers_days": 100}
    assert read("log.room", **(sections | {"oldest": "2026-11-25"}))["covers_days"] is None
    assert read("log.room", **(sections | {"free": "999999"}))["covers_days"] == 400


def test_an_alarm_counts_for_the_filesystem_of_the_logs_and_while_it_runs():
    rule = "check filesystem goc with path /\n if space usage > 80% then alert"
    sections = {"mount": "/", "monit": rule, "rules": "", "netdata": "", "running": "monit"}
    assert read("log.alerts", **sections)["count"] == 1
    assert read("log.alerts", **(sections | {"mount": "/var"}))["count"] == 0
    assert read("log.alerts", **(sections | {"running": ""}))["count"] == 0
    assert read("log.alerts", **(sections | {"monit": rule.replace("space usage", "inode usage")}))["count"] == 0


def test_both_kinds_of_programs_must_be_recorded():
    one = "-a always,exit -F arch=b64 -S execve -F key=process"
    assert not read("audit.coverage", rules=one, conf="")["processes"]
    both = read("audit.coverage", rules=one + "\n" + one.replace("b64", "b32"), conf="name_format = NONE")
    assert both["processes"]
    assert not both["machine_named"]
    assert not read("audit.coverage", rules="-a never,exit -F arch=b64 -S execve", conf="")["processes"]


def wazuh(state: str):
    return read("malware.behaviour", now="1795730900", running="wazuh-agentd", wazuh=state)


def test_an_agent_whose_manager_is_silent_watches_for_nobody():
    """Wazuh's state file as its own template writes it; no agent was at hand to record one."""
    fresh = "written=1795730890\n# State file\nstatus='connected'\nlast_keepalive='2026-11-27 05:00:00'"
    assert wazuh(fresh) == {"agents": ["wazuh"], "active": True, "keepalive_hours": 0}
    assert not wazuh(fresh.replace("'connected'", "'disconnected'"))["active"]
    assert not wazuh(fresh.replace("1795730890", str(1795730890 - 2 * 86_400)))["active"]
    assert not wazuh("")["active"]


def test_a_bouncer_or_a_jail_bars_attackers():
    assert read("intrusion.guard", running="crowdsec\ncrowdsec-firewa", jails="")["active"]
    assert not read("intrusion.guard", running="crowdsec", jails="")["active"]  # it sees and bars nobody
    assert not read("intrusion.guard", running="fail2ban-server", jails="`- Jail list:\t")["active"]


def test_a_source_is_the_hospitals_own_by_address_or_name():
    def central(hosts: str, proxy: str = "") -> bool:
        return bool(
            read("updates.source", today="2026-11-26", hosts=hosts, proxy=proxy, checked="1795730900")["central"]
        )

    assert central("192.168.10.5")
    assert central("mirror.benhvien.lan")
    assert central("packages.example.org", "192.168.10.5")
    assert not central("192.168.10.5\npackages.example.org")
    assert not central("packages.example.org", "proxy.example.org")
    assert not central("")


LINKS = [
    {"ifname": "eth0", "master": "bond0"},
    {"ifname": "eth1", "master": "bond0"},
    {"ifname": "bond0"},
    {"ifname": "bond0.10", "link": "bond0", "master": "br0"},
    {"ifname": "br0"},
    {"ifname": "eth2"},
]
BOND = """bond bond0
Bonding Mode: fault-tolerance (active-backup)
MII Status: up
Slave Interface: eth0
MII Status: up
Slave Interface: eth1
MII Status: up"""


def bonds(dev: str, text: str = BOND):
    return read("net.bonds", route=json.dumps([{"dev": dev}]), links=json.dumps(LINKS), bonds=text)


@pytest.mark.parametrize("dev", ["bond0", "bond0.10", "br0"])
def test_a_way_out_over_two_links_is_redundant(dev: str):
    assert bonds(dev) == {"bonds": 1, "links_up": 2, "redundant": True}


def test_a_bundle_beside_the_way_out_or_with_a_dead_link_is_not():
    assert not bonds("eth2")["redundant"]
    assert not bonds("bond0", BOND[: -len("up")] + "down")["redundant"]


def swap(areas: str):
    tree = {"blockdevices": [{"name": "sda", "kname": "sda", "type": "disk", "children": [
        {"name": "sda1", "kname": "sda1", "type": "part", "mountpoint": "/"},
        {"name": "geheim", "kname": "dm-0", "type": "crypt", "mountpoint": "/srv"},
        {"name": "sda2", "kname": "sda2", "type": "part"}]}]}  # fmt: skip
    return read("memory.swap-encryption", tree=json.dumps(tree), areas="Filename Type Size Used Priority\n" + areas)


def test_swap_is_plain_unless_encrypted_or_in_memory():
    rest = " partition 65532 0 -2"
    assert swap("")["plain"] == 0
    for name, plain in (("/dev/sda2", 1), ("/dev/dm-0", 0), ("/dev/zram0", 0), ("/swapfile", 1), ("/srv/swap", 0)):
        assert swap(name + rest) == {"areas": 1, "plain": plain}, name


def way(rules: str, own: str = "nameserver 192.168.1.53"):
    table = (
        "table inet filter {\n chain output {\n  type filter hook output priority 0; policy accept;\n"
        + rules
        + "\n }\n}\n"
    )
    return read("net.dns-way", own=own, behind="", rules=table)


def test_dns_elsewhere_is_barred_only_by_rules_for_both_ports():
    assert way("  udp dport { 53, 853 } reject")["barred"]
    assert not way("  udp dport 53 reject")["barred"]
    assert not way("  accept\n  udp dport { 53, 853 } reject")["barred"]
    assert not way("")["barred"]
    assert way("", own="nameserver 192.168.1.53\nnameserver 203.0.113.9")["servers"] == 2


def test_a_browser_that_no_archive_carries_is_not_supported():
    block = "firefox-esr:\n  Installed: 91.0-1\n  Candidate: {}\n  Version table:\n{}"
    held = " *** 91.0-1 100\n        100 /var/lib/dpkg/status\n"
    carried = " *** 91.0-1 500\n        500 archive bookworm/main amd64 Packages\n        100 /var/lib/dpkg/status\n"
    support = FACTS["web.support"].reader
    assert support(block.format("91.0-1", held))[0]["supported"] is False
    assert support(block.format("91.0-1", carried))[0]["supported"] is True
    assert support(block.format("102.0-1", carried))[0]["supported"] is False
    assert support("") == []


def test_old_protocols_are_found_and_new_ones_are_not():
    def weak(tls: str = "", smb: str = "", snmp: str = "") -> int:
        return int(read("protocols.old", tls=tls, smb=smb, snmp=snmp)["weak"])

    assert weak(tls="ssl_protocols TLSv1 TLSv1.1 TLSv1.2;") == 1
    assert weak(tls="ssl_protocols TLSv1.2 TLSv1.3;\nSSLProtocol all -SSLv3 -TLSv1 -TLSv1.1") == 0
    assert weak(tls="MinProtocol = TLSv1.1") == 1
    assert weak(smb="server min protocol = NT1") == 1
    assert weak(smb="server min protocol = SMB2", snmp="0") == 0
    assert weak(snmp="2") == 2


def test_a_place_takes_the_options_of_the_mount_it_lies_on():
    found = read("software.run-places", mounts="/ rw\n/home rw,noexec\n/tmp rw,noexec\n/var rw,noexec", rules="")
    assert found["open"] == ["/dev/shm"]
