"""What our modules do on a host: run a program that speaks English, read a file, write one in a single step."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path


def finished(argv, given=None):
    """(exit code, stdout, stderr) of a program that is given a text. Raises ValueError when it is not there."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise ValueError(f"{argv[0]} is not there ({error.strerror})") from None
    return done.returncode, done.stdout, done.stderr.strip()


def run(*argv):
    """What a program prints. Raises ValueError with its words when it fails."""
    code, told, error = finished(argv)
    if code != 0:
        raise ValueError(error or f"{argv[0]} failed")
    return told


def on_disk(path):
    """The text on the disk; empty when there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def write(path, content, mode=0o600):
    """Write the text in one step, for root's eyes alone; its folder is made."""
    folder = Path(path).parent
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(fresh).replace(path)
