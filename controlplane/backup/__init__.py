"""Backups with restic: saved, checked in a rolling cycle, restored for trial, spot-checked, and proven undeletable.

It never holds a password (a file of mode 0600 does), never removes a lock that somebody lives behind, and removes a
snapshot only by a declared retention. Every failure is a ``BackupError`` with a sentence in both tongues.
"""

from controlplane.backup.errors import BackupError
from controlplane.backup.repository import Repository

__all__ = ["BackupError", "Repository"]
