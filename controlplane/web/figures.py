"""The geometry of the small drawings: numbers only; colours, shapes and words belong to templates and stylesheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.domain.model import Verdict
from controlplane.domain.overview import GroupView, TrendPoint

WORDS = (
    Verdict.MET,
    Verdict.NOT_MET,
    Verdict.WAIVED,
    Verdict.STALE,
    Verdict.UNKNOWN,
    Verdict.NOT_APPLICABLE,
)
BAR_WIDTH = 1000
TREND_WIDTH, TREND_HEIGHT = 640, 150


@dataclass(frozen=True)
class Segment:
    """A part of the bar, in thousandths of its width."""

    verdict: str
    count: int
    x: float
    width: float


def bar(counts: Mapping[str, int]) -> list[Segment]:
    """One bar over all verdicts; a word that is there is never thinner than a hair."""
    present = [(str(word), counts.get(word, 0)) for word in WORDS if counts.get(word, 0)]
    total = sum(count for _, count in present)
    if not total:
        return []
    least = 8.0
    widths = [max(least, count / total * BAR_WIDTH) for _, count in present]
    scale = BAR_WIDTH / sum(widths)
    segments, x = [], 0.0
    for (verdict, count), width in zip(present, widths, strict=True):
        segments.append(Segment(verdict, count, round(x, 2), round(width * scale, 2)))
        x += width * scale
    return segments


def is_share(view: GroupView) -> bool:
    """Whether the law knows no levels for the group: so many items of so many."""
    return view.score.reason.code == "share"


@dataclass(frozen=True)
class Rung:
    """One level of a ladder: proven, possible or missing; and whether it is the target."""

    level: str
    state: str  # proven | possible | missing | open (nothing can be said)
    target: bool


def ladder(view: GroupView) -> list[Rung]:
    """The rungs of a group from the lowest to the highest."""
    levels, score = view.levels, view.score
    proven = levels.index(score.proven) + 1 if score.proven in levels else 0
    possible = levels.index(score.possible) + 1 if score.possible in levels else 0
    rungs = []
    for index, level in enumerate(levels, start=1):
        state = "proven" if index <= proven else "possible" if index <= possible else "missing"
        rungs.append(Rung(level, state if score.determinable else "open", level == view.target))
    return rungs


@dataclass(frozen=True)
class Trend:
    """Two lines over time in a box of TREND_WIDTH × TREND_HEIGHT."""

    met: str  # the points attribute of a polyline
    not_met: str
    met_end: tuple[float, float]
    not_met_end: tuple[float, float]
    top: int  # the figure at the upper edge


def trend(points: Sequence[TrendPoint]) -> Trend | None:
    """None for fewer than two rounds: one point is no trend."""
    if len(points) < 2:
        return None
    begins = points[0].at
    length = max(1.0, (points[-1].at - begins).total_seconds())
    most = max(max(p.met, p.not_met) for p in points)
    top = max(5, most + 1 + most // 8)  # the highest point stays clear of the edge
    pad = 6

    def place(point: TrendPoint, value: int) -> tuple[float, float]:
        x = pad + (point.at - begins).total_seconds() / length * (TREND_WIDTH - 2 * pad)
        y = pad + (1 - value / top) * (TREND_HEIGHT - 2 * pad)
        return round(x, 1), round(y, 1)

    met = [place(p, p.met) for p in points]
    not_met = [place(p, p.not_met) for p in points]
    return Trend(_polyline(met), _polyline(not_met), met[-1], not_met[-1], top)


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
