"""Guards of the network on Linux: intrusion prevention, web application firewall, flow records, DHCP, wireless, scans.

From logs come times and names of rules, never an address. What a criterion demands and is not there answers
``present: false``; what may rightly be elsewhere is not supported.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree  # the reader refuses a document type before it parses

from controlplane.collect.facts.linux_text import NEVER, lines, part, settings, whole
from controlplane.domain.model import Fact

_MALWARE = re.compile(r"classtype:\s*(trojan-activity|command-and-control|malware-cnc|exploit-kit|coin-mining)\b")


def _days(now: int, then: int | None) -> int:
    return NEVER if then is None or not 0 < then <= now + 86_400 else max((now - then) // 86_400, 0)


def _iso(text: str) -> int:
    """Seconds since 1970 of an ISO time with its zone."""
    at = datetime.fromisoformat(text.strip())
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return int(at.timestamp())


def read_ips(text: str) -> dict[str, Any]:
    """Suricata on the firewall: whether it stands in the way of packets, its rules and their age, what it blocked.

    ``inline`` needs a process, a queue or copy mode, and rules that drop. ``test_days`` is the age of the newest block
    of the EICAR test file, which a drill sends through.
    """
    now, running, config, queue, rules, age, blocks = part(
        text, "now", "running", "config", "queue", "rules", "age", "blocks"
    )
    seconds = whole(now)
    kinds = dict(line.split(" ", 1) for line in lines(rules))
    stopping = sum(whole(kinds.get(word, "0")) for word in ("drop", "reject"))
    queued = "queue" in queue and re.search(r" -q\b", running) is not None
    copied = re.search(r"copy-mode:\s*ips\b", config) is not None and "--af-packet" in running
    found = [line.split(" ", 1) for line in lines(blocks)]
    if not all(len(cells) == 2 for cells in found):
        raise ValueError("not a time and a rule")
    last = max((_iso(cells[0]) for cells in found), default=None)
    tests = max((_iso(cells[0]) for cells in found if "EICAR" in cells[1].upper()), default=None)
    ages = [whole(line) for line in lines(age)]
    return {
        "present": bool(lines(running)) or bool(lines(config)),
        "running": bool(lines(running)),
        "inline": bool(lines(running)) and (queued or copied) and stopping > 0,
        "rules": sum(whole(kinds.get(word, "0")) for word in ("alert", "drop", "reject", "pass")),
        "blocking_rules": stopping,
        "malware_rules": whole(kinds.get("malware", "0")),
        "rules_days": _days(seconds, max(ages, default=None)),
        "block_days": _days(seconds, last),
        "test_days": _days(seconds, tests),
    }


def read_waf(text: str) -> dict[str, Any]:
    """Web servers of nginx on the host, those that no ModSecurity guards, and what it blocked last.

    ``blocking`` says that the engine is on, not only detecting, and that the core rule set is loaded.
    """
    now, nginx, engine, blocks = part(text, "now", "nginx", "engine", "blocks")
    seconds = whole(now)
    servers = unguarded = limited = 0
    whole_on = False
    for block in re.split(r"(?m)^(?=\s*server\s*\{)", nginx):
        on = re.findall(r"(?m)^\s*(?:modsecurity|SecRuleEngine)\s+(on|off)\s*;?", block, re.IGNORECASE)
        if not re.match(r"\s*server\s*\{", block):
            whole_on = whole_on or "on" in [word.lower() for word in on]
            limited += len(re.findall(r"(?m)^\s*limit_conn\s", block))
            continue
        servers += 1
        unguarded += (on[-1].lower() if on else "on" if whole_on else "off") != "on"
        limited += len(re.findall(r"(?m)^\s*limit_conn\s", block))
    modes = re.findall(r"(?m)^\s*SecRuleEngine\s+(\S+)", engine)
    stamps = [_nginx_time(line) for line in lines(blocks)]
    return {
        "servers": servers,
        "unguarded": unguarded if servers else None,
        "blocking": bool(modes) and modes[-1].lower() == "on" and "rules:" in engine,
        "rules_files": len(re.findall(r"(?m)^rules:", engine)),
        "connection_limits": limited,
        "block_days": _days(seconds, max(stamps, default=None)),
    }


def _nginx_time(text: str) -> int:
    return int(datetime.strptime(text, "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp())


def read_flow(text: str) -> dict[str, Any]:
    """The collector of flow records: its capture files, and the days since the newest that holds any flow."""
    now, running, files = part(text, "now", "running", "files")
    seconds, found = whole(now), []
    for line in lines(files):
        cells = line.split(" ")
        if len(cells) != 2:
            raise ValueError("not a time and a size")
        if whole(cells[1]) > 400:  # an nfcapd file without one flow is a bare head
            found.append(whole(cells[0]))
    newest = max(found, default=None)
    return {
        "present": bool(lines(running)) or bool(lines(files)),
        "running": bool(lines(running)),
        "files": len(found),
        "within_24_hours": newest is not None and 0 <= seconds - newest <= 86_400,
    }


def read_dhcp(text: str) -> dict[str, Any]:
    """The DHCP server of the host: which, and whether it logs what it leases."""
    running, conf = part(text, "running", "conf")
    names = sorted(set(lines(running)))
    quiet = re.search(r"(?m)^\s*quiet-dhcp6?\b", conf) is not None
    full = re.search(r"(?m)^\s*log-dhcp\b", conf) is not None
    # dnsmasq logs every lease unless it is told to be quiet; dhcpd and Kea log them always, at info.
    return {"servers": names, "logging": bool(names) and not quiet, "verbose": full}


def read_wireless(text: str) -> list[dict[str, Any]]:
    """Every network that hostapd offers: how people prove who they are, and the bridge that its stations land in.

    ``secured`` is WPA2 or WPA3 with 802.1X or a key per station; ``guest`` networks must be kept apart instead.
    """
    found = []
    for block in re.split(r"(?m)^(?=(?:interface|bss)=)", text):
        options = settings(block)
        if "ssid" not in options:
            continue
        keys = set(options.get("wpa_key_mgmt", "").split())
        strong = options.get("wpa") in ("2",) and "TKIP" not in options.get(
            "rsn_pairwise", options.get("wpa_pairwise", "")
        )
        each = bool(keys & {"WPA-EAP", "WPA-EAP-SHA256", "WPA-EAP-SUITE-B-192"}) or "wpa_psk_file" in options
        isolated = options.get("ap_isolate") == "1"
        found.append(
            {
                "name": options.get("interface") or options.get("bss", ""),
                "open": options.get("wpa", "0") == "0",
                "strong": strong,
                "person": each,
                "isolated": isolated,
                "bridge": options.get("bridge", ""),
                "secured": strong and (each or (isolated and bool(options.get("bridge")))),
            }
        )
    return found


def read_ports(text: str) -> dict[str, Any]:
    """The newest scan from outside (nmap -oX): open ports, and those that are not on the approved list."""
    now, approved, scan = part(text, "now", "approved", "scan")
    allowed = {line for line in lines(approved) if not line.startswith("#")}
    if not scan.strip():
        return {"scanned_days": NEVER, "open": [], "unapproved": [], "unapproved_count": 0, "list": bool(allowed)}
    root = _xml(scan)
    finished = root.find("./runstats/finished")
    if root.tag != "nmaprun" or finished is None:
        raise ValueError("not a finished scan of nmap")
    opened = set()
    for port in root.iter("port"):
        state = port.find("state")
        if state is not None and state.get("state") == "open":
            opened.add(f"{port.get('protocol')}/{whole(port.get('portid') or '')}")
    extra = sorted(opened - allowed)
    return {
        "scanned_days": _days(whole(now), whole(finished.get("time") or "0")),
        "open": sorted(opened),
        "unapproved": extra,
        "unapproved_count": len(extra),
        "list": bool(allowed),
    }


def _xml(text: str) -> ElementTree.Element:
    """The root of a document without entities of its own."""
    body = re.sub(r"<!DOCTYPE nmaprun>|<\?xml-stylesheet[^>]*\?>|<\?xml [^>]*\?>", "", text).strip()
    if "<!" in re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL):
        raise ValueError("a document with declarations")
    try:
        return ElementTree.fromstring(body)  # noqa: S314  # no declarations are left
    except (ElementTree.ParseError, RecursionError):
        raise ValueError("not XML") from None


def read_scans(text: str) -> dict[str, Any]:
    """Searches for weaknesses: the days since the newest of lynis, debsecan, trivy or Greenbone, and what they left.

    ``critical`` are findings of the newest report of each tool that it calls critical or high.
    """
    now, lynis, debsecan, reports = part(text, "now", "lynis", "debsecan", "reports")
    seconds = whole(now)
    found: list[tuple[str, int, int]] = [*_lynis(lynis), *_debsecan(debsecan), *_reports(reports)]
    newest = max((at for _, at, _ in found), default=None)
    packages = max((at for tool, at, _ in found if tool != "lynis"), default=None)
    return {
        "tools": sorted({tool for tool, _, _ in found}),
        "scan_days": _days(seconds, newest),
        "package_scan_days": _days(seconds, packages),
        "critical": sum(count for _, _, count in found),
    }


def _lynis(text: str) -> list[tuple[str, int, int]]:
    end = re.search(r"(?m)^report_datetime_end=([0-9-]{10}) ([0-9:]{8})", text)
    if not end:
        return []
    return [("lynis", _iso(f"{end[1]}T{end[2]}"), len(re.findall(r"(?m)^warning\[\]=", text)))]


def _debsecan(text: str) -> list[tuple[str, int, int]]:
    """First line the time of the file, then debsecan's own summary lines; its urgency is 'high urgency'."""
    found = lines(text)
    return [("debsecan", whole(found[0]), sum("high urgency" in line for line in found[1:]))] if found else []


def _reports(text: str) -> list[tuple[str, int, int]]:
    """Lines ``tool seconds critical`` that the command made of reports in JSON or XML."""
    found = []
    for line in lines(text):
        cells = line.split()
        if len(cells) != 3:
            raise ValueError("not a line about a report")
        found.append((cells[0], whole(cells[1]), whole(cells[2])))
    return found


def read_intel(text: str) -> dict[str, Any]:
    """Sources of news about weaknesses and attacks that reached the host within 7 days: how many, which."""
    now, sources = part(text, "now", "sources")
    seconds, fresh, every = whole(now), set(), set()
    for line in lines(sources):
        cells = line.split()
        if len(cells) != 2:
            raise ValueError("not a source and a time")
        every.add(cells[0])
        if 0 <= seconds - whole(cells[1]) <= 7 * 86_400:
            fresh.add(cells[0])
    return {"sources": sorted(every), "fresh": sorted(fresh), "fresh_count": len(fresh)}


_EVE = "/var/log/suricata/eve.json"
_RULE_FILE = "/var/lib/suricata/rules/suricata.rules"
_IPS = (
    "echo '-- now'; date +%s; echo '-- running'; ps -eo comm=,args= | grep '^Suricata' | cut -c 1-300; "
    "echo '-- config'; [ ! -e /etc/suricata/suricata.yaml ] || "
    "grep -hE '^[^#]*copy-mode:' /etc/suricata/suricata.yaml; "
    "[ ! -e /etc/suricata/suricata.yaml ] || echo 'installed: 1'; echo '-- queue'; "
    "[ ! -x /usr/sbin/nft ] || ${S} /usr/sbin/nft -j -s -t list ruleset | grep -o '\"queue\"' | head -n 1; "
    f"echo '-- rules'; if [ -e {_RULE_FILE} ]; then ${{S}} /usr/bin/cat {_RULE_FILE} | awk '"
    "/^(alert|drop|reject|pass) / { n[$1]++ } "
    "/^(alert|drop|reject).*classtype: *(trojan-activity|command-and-control|malware-cnc|exploit-kit|coin-mining)/ "
    "{ n[\"malware\"]++ } END { for (k in n) print k, n[k] }' | sort; fi; echo '-- age'; "
    f"[ ! -e {_RULE_FILE} ] || ${{S}} /usr/bin/stat -c %Y {_RULE_FILE} || exit 77; echo '-- blocks'; "
    f'[ ! -e {_EVE} ] || ${{S}} /usr/bin/tail -c 8000000 {_EVE} | grep \'"action":"blocked"\' | '
    'sed -nE \'s/.*"timestamp":"([^"]+)".*"signature":"([^"]*)".*/\\1 \\2/p\' | tail -n 200; true'
)
_CONF = "/etc/nginx/nginx.conf /etc/nginx/conf.d/*.conf /etc/nginx/sites-enabled/*"
_WAF = (
    "[ -d /etc/nginx ] || exit 69; echo '-- now'; date +%s; echo '-- nginx'; "
    "grep -hsE '^[[:space:]]*(server[[:space:]]*[{]|modsecurity[[:space:]]|limit_conn[[:space:]])' "
    f"{_CONF}; echo '-- engine'; "
    "grep -hsE '^[[:space:]]*SecRuleEngine' /etc/modsecurity/modsecurity.conf /etc/nginx/modsecurity.conf "
    "/etc/nginx/modsec/*.conf; "
    f"grep -hsE '^[[:space:]]*modsecurity_rules_file' {_CONF} /etc/nginx/*.conf | awk '{{ print $2 }}' | tr -d ';' "
    "| sort -u | while read -r f; do grep -hsiE '^[[:space:]]*include' \"$f\"; done "
    "| grep -iE 'crs' | sed 's/.*/rules: crs/'; echo '-- blocks'; "
    "l=; [ ! -e /var/log/nginx/error.log ] || l=$(${S} /usr/bin/tail -c 4000000 /var/log/nginx/error.log) || exit 77; "
    "printf '%s\\n' \"$l\" | grep 'ModSecurity: Access denied with code 403' | cut -c 1-19 | tail -n 5; true"
)
_TRIVY = (
    'for f in /var/lib/emrctl/vuln/trivy*.json; do [ -r "$f" ] && echo "trivy $(stat -c %Y "$f") '
    '$(grep -cE "\\"Severity\\": *\\"(CRITICAL|HIGH)\\"" "$f")"; done; '
    'for f in /var/lib/emrctl/vuln/greenbone*.xml; do [ -r "$f" ] && echo "greenbone $(stat -c %Y "$f") '
    '$(grep -oE "threat.(High|Critical)./threat" "$f" | wc -l)"; done'
)

_HOSTAPD = " ".join(
    f"-e ^{word}="
    for word in "interface bss ssid bridge ap_isolate wpa wpa_key_mgmt wpa_pairwise rsn_pairwise wpa_psk_file".split()
)

FACTS: tuple[Fact, ...] = (
    Fact(
        "ips.suricata",
        "shell",
        _IPS,
        read_ips,
        "rules, days",
        "suricata(1), suricata-update(1), eve.json",
        privileged=True,
    ),
    Fact(
        "waf.modsecurity",
        "shell",
        _WAF,
        read_waf,
        "web servers, days",
        "nginx error.log, ModSecurity SecRuleEngine, OWASP core rule set",
        privileged=True,
    ),
    Fact(
        "flow.records",
        "shell",
        "echo '-- now'; date +%s; echo '-- running'; ps -eo comm= | grep -xE 'nfcapd|sfcapd'; echo '-- files'; "
        "find /var/cache/nfdump /var/lib/nfdump -type f -name 'nfcapd.2*' -mtime -3 -printf '%T@ %s\\n' 2>/dev/null "
        "| sed -E 's/\\.[0-9]+ / /' | sort -n | tail -n 300; true",
        read_flow,
        "files",
        "nfcapd(1)",
    ),
    Fact(
        "dhcp.server",
        "shell",
        "p=$(ps -eo comm= | grep -xE 'dnsmasq|dhcpd|kea-dhcp4'); [ -n \"$p\" ] || exit 69; "
        "echo '-- running'; echo \"$p\"; echo '-- conf'; "
        "grep -hsE '^(quiet-dhcp6?|log-dhcp|dhcp-range)' /etc/dnsmasq.conf /etc/dnsmasq.d/*; true",
        read_dhcp,
        "-",
        "dnsmasq(8), dhcpd(8), kea-dhcp4(8)",
    ),
    Fact(
        "wifi.networks",
        "shell",
        f"[ -e /etc/hostapd/hostapd.conf ] || exit 69; ${{S}} /usr/bin/grep -hs {_HOSTAPD} /etc/hostapd/hostapd.conf "
        "| sed -E 's/^(ssid|wpa_psk_file)=.*/\\1=set/'",
        read_wireless,
        "-",
        "hostapd.conf",
        privileged=True,
    ),
    Fact(
        "scan.outside",
        "shell",
        "echo '-- now'; date +%s; echo '-- approved'; cat /etc/emrctl/approved-services 2>/dev/null; echo '-- scan'; "
        "f=$(ls -t /var/lib/emrctl/scans/outside*.xml 2>/dev/null | head -n 1); "
        # Which addresses were scanned is not asked: they may be the hospital's public ones.
        '[ -z "$f" ] || grep -vE "^<!--|<(address|hostname|script|scaninfo) " "$f" | '
        'sed -E \'s/ (args|startstr|timestr|summary)="[^"]*"//g\'; true',
        read_ports,
        "ports, days",
        "nmap(1) -oX",
    ),
    Fact(
        "vuln.scans",
        "shell",
        "echo '-- now'; date +%s; echo '-- lynis'; [ ! -e /var/log/lynis-report.dat ] || "
        "${S} /usr/bin/cat /var/log/lynis-report.dat | grep -E '^(report_datetime_end|warning\\[\\]|lynis_version)' "
        "| cut -c 1-160; echo '-- debsecan'; f=/var/lib/emrctl/vuln/debsecan.txt; "
        f"[ ! -r $f ] || {{ stat -c %Y $f; grep -E \"^CVE-\" $f | head -n 1500; }}; echo '-- reports'; {_TRIVY}; true",
        read_scans,
        "days, findings",
        "lynis(8), debsecan(1), trivy JSON, Greenbone report",
        privileged=True,
    ),
    Fact(
        "vuln.sources",
        "shell",
        "echo '-- now'; date +%s; echo '-- sources'; s() { n=$1; shift; for f in \"$@\"; do "
        '[ -e "$f" ] && echo "$n $(stat -c %Y "$f")"; done; }; '
        "s debian-security /var/lib/apt/lists/*security*_InRelease; s debsecan /var/lib/emrctl/vuln/debsecan.txt; "
        "s kev /var/lib/emrctl/intel/known_exploited_vulnerabilities.json; s osv /var/lib/emrctl/intel/osv*.json; "
        "s clamav /var/lib/clamav/daily.cvd /var/lib/clamav/daily.cld; "
        f"s suricata {_RULE_FILE}; s crowdsec /etc/crowdsec/hub/.index.json /var/lib/crowdsec/hub/.index.json; true",
        read_intel,
        "sources",
        "apt-secure(8), debsecan(1), freshclam(1), suricata-update(1)",
    ),
)
