"""How the faces say days, times, numbers, levels and values in either tongue. It knows no page and no request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from controlplane import texts
from controlplane.domain.compare import Cause
from controlplane.domain.model import DECLARED, Asset, Check, Framework, Group, Reason, Words
from controlplane.domain.stake import Stake

MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
LONGEST_VALUE = 400
ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class Tongue:
    """One tongue and one time zone."""

    lang: str  # vi | en
    zone: ZoneInfo
    now: datetime

    @cached_property
    def say(self) -> texts.Say:
        """Any text of the house."""
        return texts.speaker(self.lang)

    def w(self, key: str, **figures: Any) -> str:
        """A text of the web."""
        return self.say(f"web.{key}", **figures)

    def words(self, words: Words) -> str:
        """A sentence that carries both tongues."""
        return words.in_(self.lang)

    def law(self, title: Words) -> str:
        """The short name of a law: its title up to what it is about."""
        return re.split(r":| An ninh| Cyber", title.in_(self.lang), maxsplit=1)[0].strip()

    def reason(self, reason: Reason) -> str:
        """Why, in one sentence that begins with a capital."""
        text = self._why(reason)
        return text[:1].upper() + text[1:]

    def what_if(self, reason: Reason) -> str:
        """Something assumed, found or refused about what was imagined."""
        return self._coded(("whatif", "declare"), reason)

    def forecast(self, reason: Reason) -> str:
        """Why a date is so, or why there is none."""
        return self._coded(("forecast",), reason)

    def _coded(self, sections: tuple[str, ...], reason: Reason) -> str:
        """The sentence under the first section that has the code; a code without one is shown with its figures."""
        figures = self._with_days(reason.figures)
        if "kind" in figures:
            figures["kind"] = self.known("declared_kind", str(figures["kind"]))
        key = next((f"{name}.{reason.code}" for name in sections if texts.has(f"{name}.{reason.code}")), None)
        if key is None:
            return f"{reason.code} {self.short(figures)}" if figures else reason.code
        return self.say(key, **figures)

    def overall(self, reason: Reason, framework: Framework) -> str:
        """Why an overall level is so, with the groups named by their titles."""
        titles = {group.id: self.words(group.title) for group in framework.groups}
        named = [titles.get(id_, id_) for id_ in str(reason.figures.get("groups", "–")).split(", ")]
        return self.reason(Reason(reason.code, {**reason.figures, "groups": ", ".join(named)}))

    def _why(self, reason: Reason) -> str:
        """The sentence with its days as people write them."""
        return texts.reason(self.say, reason.code, self._with_days(reason.figures))

    def _with_days(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        days = {k: self.iso(v) for k, v in figures.items() if isinstance(v, str) and ISO_DAY.fullmatch(v)}
        return {**figures, **days}

    def because(self, reason: Reason, checks: Mapping[str, Check], assets: Mapping[str, Asset]) -> str:
        """Why a criterion has its word, with the check and the asset named as people know them."""
        check, asset = checks.get(str(reason.figures.get("check"))), assets.get(str(reason.figures.get("asset")))
        if reason.code != "findings" or check is None or asset is None:
            return self.reason(reason)
        return self.w(
            "because",
            verdict=self.known("verdict", str(reason.figures.get("verdict"))),
            count=reason.figures.get("count"),
            of=reason.figures.get("of"),
            asset=self.words(asset.title),
            check=self.words(check.title),
        )

    def declare(self, reason: Reason) -> str:
        """Why a person's word cannot be kept."""
        key = f"declare.{reason.code}"
        return self.say(key, **reason.figures) if texts.has(key) else self.w("error.other")

    def cause(self, cause: Cause, checks: Mapping[str, Check], assets: Mapping[str, Asset]) -> str:
        """Why a criterion moved, with the check and the asset named as people know them."""
        reason, check, asset = cause.after or cause.before, checks.get(cause.check), assets.get(cause.asset)
        return self.say(
            f"cause.{cause.kind}",
            check=f"“{self.words(check.title)}”" if check else cause.check.removeprefix(DECLARED),
            asset=self.words(asset.title) if asset else cause.asset or "–",
            run=cause.run,
            link=-(cause.observation_after or cause.observation_before or 0),
            why=self._why(reason) if reason else "–",
        )

    def known(self, prefix: str, code: str) -> str:
        """The text ``prefix.code``, or the code itself where the texts have none: a newer record stays readable."""
        key = f"{prefix}.{code}"
        return self.say(key) if texts.has(key) else code

    def error(self, code: str, figures: Mapping[str, Any]) -> str:
        """What was turned down, in one sentence."""
        key = f"web.error.{code}"
        shown = {k: self.known("role", v) if k == "role" else v for k, v in figures.items()}
        return self.say(key, **shown) if texts.has(key) else self.w("error.other")

    # ------------------------------------------------------------------------------- days and times

    def day(self, day: date | None) -> str:
        """23/11/2026, or 23 Nov 2026 in English."""
        if day is None:
            return "–"
        return f"{day.day} {MONTHS[day.month - 1]} {day.year}" if self.lang == "en" else day.strftime("%d/%m/%Y")

    def iso(self, text: str) -> str:
        """A day that the record keeps as text; what is no day stays as it is."""
        try:
            return self.day(date.fromisoformat(text))
        except ValueError:
            return text

    def time(self, at: datetime | None) -> str:
        """The time and the day in the hospital's zone."""
        if at is None:
            return "–"
        here = at.astimezone(self.zone)
        return f"{here:%H:%M}, {self.day(here.date())}"

    def exact(self, at: datetime) -> str:
        """To the second with the zone, for evidence."""
        here = at.astimezone(self.zone)
        return f"{self.day(here.date())} {here:%H:%M:%S} (UTC{here:%z})"

    def ago(self, at: datetime | None) -> str:
        """How long ago, in the largest fitting unit."""
        if at is None:
            return "–"
        minutes = int((self.now - at).total_seconds() // 60)
        if minutes < 1:
            return self.w("ago.now")
        for unit, size in (("days", 60 * 24), ("hours", 60), ("minutes", 1)):
            if minutes >= size * (2 if unit == "days" else 1):
                return self.count(f"ago.{unit}", minutes // size)
        return ""

    def days_left(self, days: int) -> str:
        """Còn 3 ngày; hôm nay là hạn; đã qua hạn 435 ngày."""
        if days == 0:
            return self.w("days.today")
        return self.count("days.left" if days > 0 else "days.over", abs(days))

    def count(self, key: str, number: int) -> str:
        """``key`` with its number; English has a singular, ``key_one``."""
        one = f"web.{key}_one"
        return self.say(one if number == 1 and texts.has(one) else f"web.{key}", number=self.number(number))

    def span(self, span: timedelta) -> str:
        """26 giờ, 7 ngày."""
        minutes = int(span.total_seconds() // 60)
        if minutes % 1440 == 0 and minutes >= 2880:
            return self.count("span.days", minutes // 1440)
        if minutes % 60 == 0:
            return self.count("span.hours", minutes // 60)
        return self.count("span.minutes", minutes)

    # ----------------------------------------------------------------------------- numbers and values

    def number(self, value: float) -> str:
        """1.234,5 in Vietnamese, 1,234.5 in English."""
        whole = float(value).is_integer()
        text = f"{int(value):,}" if whole else f"{value:,.6f}".rstrip("0")
        return text if self.lang == "en" else text.translate(str.maketrans(",.", ".,"))

    def scalar(self, value: Any) -> str:
        """One figure as people write it. A year or an identifier keeps its digits together."""
        if isinstance(value, bool):
            return self.say("figure.true" if value else "figure.false")
        if value is None:
            return "–"
        if isinstance(value, int):
            return str(value) if abs(value) < 10_000 else self.number(value)
        if isinstance(value, float):
            return self.number(value)
        if isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False, sort_keys=True)

    def short(self, value: Any) -> str:
        """Any value in one line of limited length."""
        if isinstance(value, Mapping):
            text = " · ".join(f"{key}: {self.short(part)}" for key, part in value.items())
        elif isinstance(value, list):
            plain = all(not isinstance(part, list | Mapping) for part in value)
            text = ", ".join(self.scalar(v) for v in value) if plain else self.count("value.rows", len(value))
            text = text or self.w("value.none")
        else:
            text = self.scalar(value)
        return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"

    # ----------------------------------------------------------------------------------- the house's

    def level(self, level: str | None, levels: tuple[str, ...]) -> str:
        """Mức 2, Mức nâng cao, or below the lowest of the ladder."""
        return texts.level(self.say, level, levels)

    def stake(self, worth: Stake, group: Group) -> str:
        """What a criterion costs or carries in level today, in a sentence."""
        return texts.stake(self.say, worth, group.levels, determinable=group.list_complete)

    def clause(self, clause: str) -> str:
        """A clause of the law; the data's ``l2 4.5.1`` (in the set of level 2) is said in words."""
        return re.sub(r"\bl([1-9]) ", lambda m: self.say("level.number", level=m[1]) + ": ", clause)

    def rule(self, check: Check) -> str:
        """The rule of a check in words: what is measured and what it must be."""
        bound = check.expect.bound
        shown = ", ".join(self.scalar(v) for v in bound) if isinstance(bound, list) else self.scalar(bound)
        figure = self.w("rule.figure", of=check.of) if check.of else self.w("rule.value")
        return self.w(f"rule.{check.expect.test}", figure=figure, bound=shown)

    def size(self, count: int) -> str:
        """Bytes, in the unit that reads best."""
        for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
            if count >= factor:
                return f"{self.number(round(count / factor, 1))} {unit}"
        return f"{self.number(count)} byte"
