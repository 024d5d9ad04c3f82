"""`emrctl`: thin verbs over the plane, a module for each kind. It decides nothing; refusals are sentences."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from controlplane.backup import BackupError
from controlplane.bootstrap import NoStoreError
from controlplane.cli import acting, ahead, backup, checks, keeping, law, leaving, looking
from controlplane.cli.base import BROKEN, FAILED, USAGE, app, screen
from controlplane.collect.yaml_file import InventoryError
from controlplane.console import Screen
from controlplane.domain.catalog import CatalogError
from controlplane.plays import PlayError
from controlplane.reports.weeks import WeekError
from controlplane.settings import SettingsError
from controlplane.store.accounts import AccountError
from controlplane.store.archive import ArchiveError, BusyError
from controlplane.store.bundle import BundleError, SigningKeyError
from controlplane.store.copies import CopyError
from controlplane.store.vault import VaultError

VERBS = (looking, checks, ahead, acting, backup, law, leaving, keeping)
"""Every module of verbs; to import one is to add its verbs to the program."""


def busy(lock: str) -> tuple[str, dict[str, Any]]:
    """The sentence for a lock that is taken: a host's, the round's, or that of the check of drift."""
    if lock.startswith("host "):
        return "cli.host_busy", {"host": lock.removeprefix("host ")}
    return "cli.drift_busy" if lock == "drift" else "cli.round_busy", {}


WORDED = (InventoryError, BackupError, PlayError, WeekError)
NAMED: dict[type[Exception], Callable[[Any], tuple[str, dict[str, Any]]]] = {
    BusyError: lambda e: busy(str(e)),
    NoStoreError: lambda e: ("cli.no_store", {"path": str(e)}),
    SettingsError: lambda e: ("cli.bad_setting", {"why": str(e)}),
    CatalogError: lambda e: ("cli.bad_catalog", {"why": str(e)}),
    AccountError: lambda e: (f"account.{e.code}", e.figures),
    CopyError: lambda e: (f"copy.{e.code}", e.figures),
}
PLAIN = (ArchiveError, VaultError, BundleError, SigningKeyError)
USAGE_KINDS = (SettingsError, AccountError, WeekError)


def main() -> None:
    """The program. Whatever was foreseen is a sentence and an exit code; anything else is a bug and shows itself."""
    try:
        app()
    except KeyboardInterrupt:
        screen().complain_both("cli.interrupted")
        sys.exit(130)
    except WORDED as error:
        place = getattr(error, "place", "")
        for words in (error.words.vi, error.words.en):
            refusal_screen().complain(f"{place}: {words}" if place else words)
        sys.exit(USAGE if isinstance(error, USAGE_KINDS) else FAILED)
    except tuple(NAMED) as error:
        key, figures = next(make(error) for kind, make in NAMED.items() if isinstance(error, kind))
        refusal_screen().complain_both(key, **figures)
        sys.exit(exit_code(error))
    except PLAIN as error:
        refusal_screen().complain(str(error))
        sys.exit(BROKEN if isinstance(error, VaultError) else FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `emrctl checks | head` is no failure
        sys.exit(0)
    except OSError as error:
        refusal_screen().complain_both("cli.cannot_write", path=error.filename or "-", why=error.strerror or str(error))
        sys.exit(FAILED)


def exit_code(error: Exception) -> int:
    """Of a refusal that has a sentence."""
    if isinstance(error, CopyError) and error.code == "broken":
        return BROKEN
    return USAGE if isinstance(error, USAGE_KINDS) else FAILED


def refusal_screen() -> Screen:
    """A screen even when the settings themselves are what is wrong."""
    try:
        return screen()
    except SettingsError:
        return Screen("vi", ZoneInfo("Asia/Ho_Chi_Minh"))
