"""What can go wrong with a repository, each with a code and a sentence in both tongues; it tells no causes apart."""

from __future__ import annotations

from typing import Any

from controlplane import texts
from controlplane.domain.model import Words


class BackupError(RuntimeError):
    """Something about a backup did not work; ``code`` is for programs, ``words`` for people."""

    def __init__(self, code: str, **figures: Any) -> None:
        key = f"backup.{code}"
        self.code, self.figures = code, figures
        self.words = Words(texts.say("vi", key, **figures), texts.say("en", key, **figures))
        super().__init__(self.words.en)
