"""Hides secrets by the shape they have, before anything of a run is kept or shown."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "[hidden]"
_TELLING = (
    r"passw(?:or)?d|passphrase|secret|token|credential|community"
    r"|(?:api|auth|priv|private|access)_?key"
)
_SECRET_NAME = re.compile(rf"(?i)(?:{_TELLING}|(?:^|_)pass$)")
_HARMLESS_NAME = re.compile(
    r"(?i)authentication|_(?:file|files|path|age|days|length|lock|policy|expire[sd]?)$|^update_"
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL)
_VAULT = re.compile(r"\$ANSIBLE_VAULT;[^\n]*(?:\n\s*[0-9a-f]{16,})*")
_IN_TEXT = (  # every repetition is bounded, or starts at a rare word: a megabyte of anything is read in linear time
    re.compile(  # name: value, name = "value", NAME=value, "name": "value"
        rf"(?i)(?P<keep>(?:{_TELLING}|(?<![a-z])pass(?![a-z]))(?!\w{{0,40}}authentication)"
        r"[\w.-]{0,60}[\"']?[ \t]{0,40}[:=][ \t]{0,40})"
        r"(?P<hide>\"[^\"\n]{0,4096}\"?|'[^'\n]{0,4096}'?|[^\s\"',;}\]][^\n\"',;}\]]*)"
    ),
    re.compile(r"(?im)(?P<keep>^[ \t+-]{0,40}(?:ro|rw)community6?[ \t]+)(?P<hide>\S+)"),  # snmpd.conf
    re.compile(r"(?im)(?P<keep>^[ \t+-]{0,40}(?:createUser|usmUser)[ \t]+\S+[ \t]+)(?P<hide>.+)$"),
    re.compile(r"(?i)(?P<keep>\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@]{0,256}:)(?P<hide>[^\s/@]{1,256})(?=@)"),  # in a URL
    re.compile(r"(?i)(?P<keep>\b(?:bearer|basic)[ \t]+)(?P<hide>[A-Za-z0-9._~+/=-]{8,})"),
    re.compile(
        r"(?P<keep>)(?P<hide>\$(?:[1256y]|2[aby]|7|gy|argon2\w{0,4})\$[^\s:\"']{8,})"
    ),  # a hash as in /etc/shadow
)


def scrub(value: Any) -> Any:
    """The same value with secrets hidden: values under a telling name, and in texts private keys, vaults, passwords.

    It knows shapes, not secrets: one that stands in free text under no name passes. So tasks that handle one say
    ``no_log: true``, and the runner drops their results before they come here.
    """
    if isinstance(value, dict):
        return {str(key): HIDDEN if _hides(str(key), part) else scrub(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(part) for part in value]
    return _scrub_text(value) if isinstance(value, str) else value


def _hides(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool) or value == "":
        return False
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def _scrub_text(text: str) -> str:
    text = _PEM.sub(lambda match: f"[{match[1].lower()} {HIDDEN[1:]}", text)
    text = _VAULT.sub("[vault text hidden]", text)
    for pattern in _IN_TEXT:
        text = pattern.sub(lambda match: match["keep"] + HIDDEN, text)
    return text
