"""What goes out: the weekly report, the evidence bundle, the copy of the store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

from controlplane import texts
from controlplane.bootstrap.looking import Looking
from controlplane.reports.weeks import EvidenceLine, IsoWeek, LookLine
from controlplane.store.bundle import SigningKey, export
from controlplane.store.copies import save_copy


class Leaving(Looking):
    """Reports and evidence."""

    def weekly_report(self, week: IsoWeek, lang: str = "vi") -> bytes:
        """The Thursday report of a week as .docx, with the figures of its last round.

        A week without a round of its own shows the newest figures there are, and says so. The report is linked.
        """
        from controlplane.reports.weekly import render_weekly  # noqa: PLC0415  # docx is slow to load

        now = self.clock()
        ended = datetime.combine(week.sunday + timedelta(days=1), time(), self.settings.timezone).astimezone(UTC)
        past = self.archive.last_round(ended) is not None and ended < now
        o = self.overview(week.sunday if past else None)
        evidence, looks = [], []
        if o.last_round is not None and o.last_round.ended_at is not None:
            for label, name in self.archive.sealed_names(o.last_round.id).items():
                evidence.append(EvidenceLine(texts.say(lang, f"report_evidence.{label}"), name, o.last_round.ended_at))
            titles = {name: asset.title.in_(lang) for name, asset in self.judgement().assets.items()}
            looks = [
                LookLine(titles.get(look["asset"], look["asset"]), look["outcome"])
                for look in self.archive.looks_of(o.last_round.id)
            ]
        day = min(now.astimezone(self.settings.timezone).date(), max(week.thursday, o.as_of) if past else o.as_of)
        document = render_weekly(o, week, looks, evidence, texts.speaker(lang), issued_on=day)
        kept = {"week": str(week), "at": now, "document": self.archive.vault.put(document), "head": o.chain_head}
        self.archive.append("report", kept, now)
        return document

    def export_evidence(self, out: Path, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Write the evidence bundle. Raises ``BundleError``, ``SigningKeyError``."""
        name = self.campaign.hospital.name
        key = SigningKey.load(self.settings.keys_dir)
        return export(self.archive, key, out, self.clock(), (name.vi, name.en), progress)

    def save_copy(self, to: Path) -> dict[str, Any]:
        """Bring a copy of the whole store up to date, keys included, and walk its chain. Raises ``CopyError``."""
        return save_copy(self.archive, self.settings.data_dir, to)

    def key_fingerprint(self) -> str:
        """The signing key's SHA-256, as reports print it. Raises ``SigningKeyError``."""
        return SigningKey.load(self.settings.keys_dir).fingerprint
