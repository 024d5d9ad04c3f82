"""What a Windows workstation says of itself in the sections of ``windows/files/workstation.ps1``. Pure.

The forms are those of recorded outputs of real machines (tests/windows, each with its origin). What a section does not
say, or says in another language, is None: nobody may take it for good or for bad.
"""

from __future__ import annotations

import re

_UNKNOWN_AGE = 0xFFFFFFFF  # Defender's word for "there are no signatures"


def _sections(told):
    """Section -> its lines, from the marks ``STATUS name``."""
    found, name = {}, None
    for line in told.replace("\r", "").splitlines():
        if line.startswith("STATUS "):
            name = line.removeprefix("STATUS ").strip()
            found[name] = []
        elif line.startswith(("DIFFERS ", "REPORT ")):
            name = None
        elif name is not None:
            found[name].append(line)
    return found


def _listed(lines):
    """Name -> value of a list ``Name : value``; a value that goes on in the next lines is put together."""
    found, name = {}, None
    for line in lines:
        if match := re.match(r"([A-Za-z]\w*)\s*:(?: (.*))?$", line):
            name = match[1]
            found[name] = (match[2] or "").strip()
        elif name and line.startswith(" ") and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _truth(word):
    return {"true": True, "false": False}.get((word or "").lower())


def _number(word, end=None):
    return int(word) if (word or "").isdigit() and int(word) != end else None


def read_windows(told):
    """Figures of the sections defender, disk and time: truths, days and words, each None when it was not said."""
    parts = _sections(told)
    defender, disk = _listed(parts.get("defender", ())), _listed(parts.get("disk", ()))
    time = "\n".join(parts.get("time", ()))
    leap = re.search(r"(?m)^Leap Indicator: ([0-3])", time)
    source = re.search(r"(?m)^Source: (.+?)\s*$", time)
    stopped = "0x80070426" in time
    return {
        "defender_mode": defender.get("AMRunningMode") or None,
        "realtime_protection": _truth(defender.get("RealTimeProtectionEnabled")),
        "signature_age_days": _number(defender.get("AntivirusSignatureAge"), _UNKNOWN_AGE),
        "system_disk": disk.get("VolumeStatus") or None,
        "disk_protection": {"On": True, "Off": False}.get(disk.get("ProtectionStatus")),
        "time_synchronised": False if stopped else leap[1] != "3" if leap else None,
        "time_source": re.sub(r",0x[0-9a-fA-F]+$", "", source[1]) if source else None,
    }


def windows_lacks(figures, most_days=7):
    """What does not hold or was not said, in words for a person; real-time protection counts in Defender's normal mode.

    In passive mode Defender calls its protection on although another program, or none, stands guard.
    """
    lacks = []
    if figures["realtime_protection"] is None:
        lacks.append("Microsoft Defender did not answer: look which antivirus stands guard")
    elif not figures["realtime_protection"]:
        lacks.append("real-time protection is off")
    elif figures["defender_mode"] not in ("Normal", None):
        lacks.append(f"Microsoft Defender does not stand guard itself ({figures['defender_mode']})")
    if figures["realtime_protection"] and (
        figures["signature_age_days"] is None or figures["signature_age_days"] > most_days
    ):
        age = figures["signature_age_days"]
        lacks.append("the age of the signatures was not said" if age is None else f"signatures are {age} days old")
    if figures["disk_protection"] is None:
        lacks.append("the system disk did not say whether it is encrypted")
    elif not figures["disk_protection"] or figures["system_disk"] != "FullyEncrypted":
        lacks.append(f"the system disk is not protected by encryption ({figures['system_disk'] or 'unknown'})")
    if figures["time_synchronised"] is None:
        lacks.append("the clock did not say whether it is synchronised")
    elif not figures["time_synchronised"] or figures["time_source"] == "Local CMOS Clock":
        lacks.append("the clock is not synchronised")
    return lacks


class FilterModule:
    """The filters, by name."""

    def filters(self):
        """Names under which playbooks find them."""
        return {"read_windows": read_windows, "windows_lacks": windows_lacks}
