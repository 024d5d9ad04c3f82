#!/usr/bin/python3
"""Thins old snapshots out from the storage's own side, as /etc/emrctl/retention.json says; sources have no right to.

A source that was taken over may save snapshots with any time it likes. One that lies ahead is no backup: then nothing
is thinned out, and a person looks. One repository that fails keeps no other from its turn. It needs the modules
emr_*.py of the backup job beside it. Exit codes: 0 done, 1 something failed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from emr_restic import restic, seconds_of, snapshots
from emr_words import JobError, say, tell

CONFIG = Path(os.environ.get("EMR_RETENTION_CONFIG", "/etc/emrctl/retention.json"))
AHEAD_SECONDS = 3600  # by which two clocks may differ
PRUNE_SECONDS = 18 * 3600


def thin_out(config, repository):
    """Forget what the policy of the storage does not keep, and free its room. Raises JobError."""
    ahead = [s for s in snapshots(config, repository) if seconds_of(s["time"]) > time.time() + AHEAD_SECONDS]
    if ahead:
        figures = {"count": len(ahead), "id": ahead[-1]["id"][:8], "when": ahead[-1]["time"][:16]}
        raise JobError("ahead", repository=repository["name"], **figures)
    words = ("forget", *config["keep"].split(), "--group-by", "host,tags", "--prune")
    restic(config, repository, *words, seconds=PRUNE_SECONDS)


def main():
    """Every repository in turn."""
    config, good = json.loads(CONFIG.read_text(encoding="utf-8")), True
    for repository in config["repositories"]:
        try:
            thin_out(config, repository)
        except JobError as error:
            tell(error)
            good = False
        except Exception as error:  # the next repository must have its turn, whatever this one stumbled over
            say("broken", name=repository.get("name"), why=f"{type(error).__name__}: {error}")
            good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
