"""Every setting, from a file and the environment, read once. It opens no door and creates nothing.

Order, later wins: the defaults below, ``/etc/emrctl/emrctl.toml``, ``<data_dir>/emrctl.toml``, ``EMRCTL_*`` variables,
options of the command line. No setting holds a secret: secrets are files of mode 0600 under ``<data_dir>/secrets``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

HOME = Path(__file__).resolve().parent.parent
OWN_RESTIC = Path("var/tools/restic/usr/bin/restic")
"""Where script/restic puts a restic of its own, below the home."""

SYSTEM_FILE = Path("/etc/emrctl/emrctl.toml")


class SettingsError(ValueError):
    """A setting is wrong; the message names it, what it holds and what it may hold."""


class Settings(BaseSettings):
    """What may be set. Times are in the unit of their name."""

    model_config = SettingsConfigDict(env_prefix="EMRCTL_", extra="forbid", frozen=True)

    home: Path = Field(HOME, description="Folder that holds checks, playbooks and inventory.")
    data_dir: Path = Field(HOME / "var", description="Folder of the store, the vault, keys and logs (0700).")
    inventory: list[Path] = Field(
        default_factory=list,
        description="Inventory files after inventory/hosts.yaml, for example the lab's; later files win.",
    )
    known_hosts: Path | None = Field(None, description="OpenSSH known_hosts; default <data_dir>/known_hosts.")
    database: str = Field(
        "", description="SQLAlchemy address; empty: SQLite in <data_dir>/emrctl.db. Only SQLite is supported."
    )
    language: str = Field("vi", pattern="^(vi|en)$", description="Tongue of the faces: vi or en.")
    zone: str = Field("Asia/Ho_Chi_Minh", description="Time zone of the faces and of the law's dates.")
    host: str = Field("127.0.0.1", description="Address that serve listens on.")
    port: int = Field(8080, ge=1, le=65535, description="Port that serve listens on.")
    at_once: int = Field(16, ge=1, le=256, description="How many assets are looked at at the same time.")
    connect_timeout_seconds: float = Field(5.0, gt=0, le=120, description="How long one connection may take.")
    look_deadline_seconds: float = Field(30.0, gt=0, le=600, description="How long one look at one asset may take.")
    round_deadline_seconds: float = Field(300.0, gt=0, le=7200, description="How long a whole round may take.")
    round_every_minutes: int = Field(60, ge=0, le=10080, description="How often serve makes a round; 0: never.")
    session_hours: int = Field(12, ge=1, le=168, description="How long a log-in lasts.")
    largest_upload_mb: int = Field(25, ge=1, le=200, description="How many MiB of documents one declaration may bring.")
    cookie_secure: bool = Field(False, description="Send the session cookie over HTTPS only.")
    document_most_mb: int = Field(20, ge=1, le=200, description="How large a file handed in as evidence may be.")
    clamd_socket: Path | None = Field(
        None, description="Unix socket of clamd, for example /run/clamav/clamd.ctl; none: evidence is not scanned."
    )
    clinic_hours: str = Field(
        "06:30-17:00",
        pattern="^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$",
        description="Hospital time, every day: no disruptive play is applied then without break-glass; empty: never.",
    )
    approval_days: int = Field(
        7, ge=1, le=366, description="How many days the approval of a preview is good for; then it is asked for again."
    )
    drift_at: str = Field(
        "02:00",
        pattern="^(([01][0-9]|2[0-3]):[0-5][0-9])?$",
        description="Hospital time at which serve previews applied plays to find drift, once a night; empty: never.",
    )
    deep_drill_at: str = Field(
        "sun 03:00",
        pattern="^((mon|tue|wed|thu|fri|sat|sun) ([01][0-9]|2[0-3]):[0-5][0-9])?$",
        description="Hospital day and time at which serve restores every data set in reach for trial, once a week; "
        "empty: never.",
    )
    play_timeout_minutes: int = Field(60, ge=1, le=1440, description="How long one play may run.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, then the environment, then the files; nothing else is read."""
        given = init_settings().get("data_dir") or os.environ.get("EMRCTL_DATA_DIR") or HOME / "var"
        own = TomlConfigSettingsSource(settings_cls, Path(given) / "emrctl.toml")
        return init_settings, env_settings, own, TomlConfigSettingsSource(settings_cls, SYSTEM_FILE)

    @property
    def vault_dir(self) -> Path:
        """Bytes by their SHA-256."""
        return self.data_dir / "vault"

    @property
    def keys_dir(self) -> Path:
        """The signing key (0600)."""
        return self.data_dir / "keys"

    @property
    def secrets_dir(self) -> Path:
        """Files of mode 0600 with SNMP keys and communities."""
        return self.data_dir / "secrets"

    @property
    def run_dir(self) -> Path:
        """Private folders of running plays."""
        return self.data_dir / "run"

    @property
    def live_dir(self) -> Path:
        """Events of running plays, as they come."""
        return self.data_dir / "live"

    @property
    def known_hosts_file(self) -> Path:
        """The host keys that are trusted."""
        return self.known_hosts or self.data_dir / "known_hosts"

    @property
    def database_url(self) -> str:
        """Where the store is."""
        return self.database or f"sqlite:///{self.data_dir / 'emrctl.db'}"

    @property
    def inventory_files(self) -> tuple[Path, ...]:
        """Every inventory file, in the order they are read."""
        return (self.home / "inventory" / "hosts.yaml", *self.inventory)

    @property
    def timezone(self) -> ZoneInfo:
        """The zone of the faces."""
        return ZoneInfo(self.zone)


def read_settings(**options: Any) -> Settings:
    """Settings from files, environment and ``options`` (None is left out). Raises ``SettingsError``."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(**given)
        settings = settings.model_copy(update={"data_dir": settings.data_dir.expanduser().absolute()})
        _ = settings.timezone
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise SettingsError(f"setting {name} = {first.get('input')!r}: {first['msg']}") from None
    except Exception as error:  # a broken TOML file, an unknown zone
        raise SettingsError(f"settings cannot be read: {error}") from None
    return settings
