#!/usr/bin/python3
"""Tells the hospital that a disk or an array fails. Called by mdadm (event, array, disk) and by smartd (environment).

It reads /etc/emrctl/storage-alert.json, posts JSON to the web address there and sends mail by the relay there. Each
way is tried once more after ten seconds; what fails is said in the system log, and the other way is taken all the same.
"""

from __future__ import annotations

import json
import os
import smtplib
import socket
import sys
import syslog
import time
import urllib.request
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

SETTINGS = "/etc/emrctl/storage-alert.json"
QUIET = {"NewArray", "SparesMissing", "MoveSpare"}
SECONDS = 10


def event() -> dict[str, str]:
    """What happened, in fields."""
    told = {"host": socket.gethostname(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    if "SMARTD_MESSAGE" in os.environ:
        kind, device = os.environ.get("SMARTD_FAILTYPE", "SMART"), os.environ.get("SMARTD_DEVICE", "")
        return {
            **told,
            "source": "smartd",
            "event": kind,
            "device": device,
            "disk": "",
            "words": os.environ["SMARTD_MESSAGE"],
        }
    kind, device, disk = ([*sys.argv[1:], "", "", ""])[:3]
    words = f"{kind} on {device}" + (f", disk {disk}" if disk else "")
    return {**told, "source": "mdadm", "event": kind, "device": device, "disk": disk, "words": words}


def post(address: str, told: dict[str, str]) -> None:
    """Send the fields as JSON."""
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(told).encode(), head)  # noqa: S310 - the play allows http(s)
    with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310 - as above
        pass


def mail(way: dict[str, str], told: dict[str, str]) -> None:
    """Send the fields as a letter."""
    letter = EmailMessage()
    letter["Subject"] = f"[{told['host']}] {told['words'][:120]}".replace("\n", " ")
    letter["From"], letter["To"] = way["from"], way["to"]
    letter.set_content("".join(f"{key}: {value}\n" for key, value in told.items()))
    host, _, port = way["relay"].partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=SECONDS) as relay:
        relay.send_message(letter)


def main() -> int:
    """Tell by every way; 1 when one of them failed. The address is never logged: it may hold a token."""
    told = event()
    syslog.openlog("emr-disk-event")
    syslog.syslog(syslog.LOG_CRIT if told["event"] not in QUIET else syslog.LOG_NOTICE, told["words"])
    if told["event"] in QUIET:
        return 0
    settings = json.loads(Path(SETTINGS).read_text(encoding="utf-8"))
    ways = []
    if settings.get("webhook"):
        ways.append(("webhook", post, settings["webhook"]))
    if settings.get("mail"):
        ways.append(("mail", mail, settings["mail"]))
    failed = 0
    for name, way, where in ways:
        for last in (False, True):
            try:
                way(where, told)
                break
            except (OSError, ValueError, smtplib.SMTPException) as error:
                if last:
                    syslog.syslog(syslog.LOG_ERR, f"{name} was not told: {type(error).__name__}")
                    failed = 1
                else:
                    time.sleep(SECONDS)
    return failed


if __name__ == "__main__":
    sys.exit(main())
