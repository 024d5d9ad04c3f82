"""Every word the house says itself, in two tongues of the same keys and the same holes. It decides nothing."""

from __future__ import annotations

import functools
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

LANGUAGES = ("vi", "en")

Say = Callable[..., str]
"""say(key, **figures) -> sentence, already bound to a tongue."""


@functools.cache
def words(lang: str) -> Mapping[str, str]:
    """Every key of one tongue, flattened: ``verdict.met``."""
    text = (Path(__file__).parent / f"{lang}.yaml").read_text(encoding="utf-8")
    document = yaml.load(text, Loader=yaml.CSafeLoader)  # a safe loader, in C: every command reads it
    flat: dict[str, str] = {}
    _flatten(document, "", flat)
    return flat


def holes(sentence: str) -> frozenset[str]:
    """The names of a sentence's figures."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(sentence) if name)


def say(lang: str, key: str, **figures: Any) -> str:
    """The sentence under ``key`` with its figures. Raises ``KeyError`` for a key or a figure that is missing."""
    return words(lang)[key].format(**{name: _figure(lang, value) for name, value in figures.items()})


def speaker(lang: str) -> Say:
    """``say`` bound to a tongue; anything but ``en`` is Vietnamese."""
    tongue = "en" if lang == "en" else "vi"
    return functools.partial(say, tongue)


def has(key: str) -> bool:
    """Whether the texts know a key."""
    return key in words("vi")


def reason(say_: Say, code: str, figures: Mapping[str, Any]) -> str:
    """A reason's sentence; a code without one is shown as it is, with its figures."""
    key = f"reason.{code}"
    if not has(key):
        return f"{code} {dict(figures)}" if figures else code
    wanted = holes(words("vi")[key])
    given = {name: figures.get(name, "?") for name in wanted}
    if "verdict" in given:
        given["verdict"] = say_(f"verdict.{given['verdict']}")
    if code.startswith("declared"):
        given["kind"] = say_(f"declared_kind.{given['kind']}")
        given |= {"until": say_("figure.no_end")} if given.get("until", "") is None else {}
    text = say_(key, **given)
    return say_("reason.of_row", row=figures["row"], text=text) if "row" in figures else text


def level(say_: Say, found: str | None, ladder: Sequence[str]) -> str:
    """A level in words: "Mức 4", "Mức nâng cao"; None is below the lowest of the ladder: "Dưới mức 1"."""
    if found is None:
        lowest = level(say_, ladder[0], ladder) if ladder else ""
        return say_("level.below", lowest=lowest[:1].lower() + lowest[1:])
    return say_(f"level.{found}") if has(f"level.{found}") else say_("level.number", level=found)


def stake(say_: Say, worth: Any, ladder: Sequence[str], *, determinable: bool) -> str:
    """What a criterion costs or carries in level, in a sentence; ``ladder`` is that of its group.

    Where the group's official list is not complete no level is proven, and only the possible one is told.
    """

    def named(found: str | None) -> str:
        return level(say_, found, ladder)

    def pair(at: Any) -> str:
        if not determinable:
            return say_("stake.possible", possible=named(at.possible))
        return say_("level.pair", proven=named(at.proven), possible=named(at.possible))

    figures = {}
    if worth.levels is not None:
        today, met, lost = map(pair, worth.levels)
        then = met if worth.reason.code.startswith("costs") else lost
        asked = say_("stake.asked", level=named(worth.level), missed=worth.missed)
        figures = {"now": today, "then": then, "asked": asked}
    return say_(f"stake.{worth.reason.code}", **figures)


NEVER = 999_999
"""What a reader gives for "never" or "no limit", so that a check can compare it; a person reads "none"."""


def _figure(lang: str, value: Any) -> Any:
    if value == NEVER and not isinstance(value, bool):
        return words(lang)["figure.none"]
    if isinstance(value, bool):
        return words(lang)["figure.true" if value else "figure.false"]
    if hasattr(value, "in_"):  # a sentence that the core already holds in both tongues
        return value.in_(lang)
    if isinstance(value, list | tuple):
        return ", ".join(str(_figure(lang, v)) for v in value)
    if isinstance(value, float) and lang == "vi":
        return f"{value:g}".replace(".", ",")
    return value


def _flatten(document: Any, prefix: str, flat: dict[str, str]) -> None:
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            _flatten(value, f"{name}.", flat)
        else:
            flat[name] = unicodedata.normalize("NFC", value)
