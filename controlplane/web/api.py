"""The API under /api/v1: the same nouns as the pages, as JSON. It refuses what the pages refuse.

It writes one thing: a person's word with its documents, by the same way as the form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import FastAPI, Query, Request, Response

from controlplane.bootstrap import Plane
from controlplane.bootstrap.proofs import Proof
from controlplane.domain.chain import GENESIS
from controlplane.domain.compare import Difference
from controlplane.domain.duties import Due
from controlplane.domain.explain import Explanation
from controlplane.domain.leveling import Determination
from controlplane.domain.model import Check, Declared, Finding, Observation, Scorecard, Words
from controlplane.domain.overview import Overview, RoundView
from controlplane.web import access, pages, queries
from controlplane.web.errors import RequestError
from controlplane.web.pages import law as law_page
from controlplane.web.pages import moving, saying
from controlplane.web.pages import plan as plan_page
from controlplane.web.pages.face import Form
from controlplane.web.words import Tongue

T = TypeVar("T")
AsOf = Annotated[str | None, Query(description="A past day, for example 2026-11-22: the hospital as it stood then.")]
UnderLaw = Annotated[
    str | None,
    Query(description="A day whose laws are asked for, for example 2025-08-15: the frame of the plan of 2025."),
]
PageNumber = Annotated[str | None, Query(description=f"Counted from 1; {queries.PER_PAGE} entries each.")]


@dataclass(frozen=True)
class Answer(Generic[T]):
    """One thing."""

    data: T
    ok: Literal[True] = True


@dataclass(frozen=True)
class Many(Generic[T]):
    """One page of a list."""

    data: list[T]
    page: int
    pages: int
    total: int
    ok: Literal[True] = True


@dataclass(frozen=True)
class ErrorBody:
    """What went wrong: a code for programs, a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Failure:
    """The one shape of every error."""

    error: ErrorBody
    ok: Literal[False] = False


@dataclass(frozen=True)
class CriterionLine:
    """A criterion in a list."""

    id: str
    framework: str
    group: str
    levels: tuple[str, ...]
    title: Words
    clause: str
    standing: str
    scored: bool
    verdict: str
    reason_code: str
    reason_figures: Mapping[str, Any]
    checks: tuple[str, ...]


@dataclass(frozen=True)
class AssetStory:
    """An asset with its newest observations and findings."""

    asset: queries.AssetRow
    observations: tuple[Observation, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class RunLine:
    """A run in a list."""

    id: str
    play: str
    mode: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    hosts: list[str]
    dossier: str | None


@dataclass(frozen=True)
class Chain:
    """The head of the record and whether every link holds."""

    seq: int
    at: str | None
    seal: str
    holds: bool
    broken_at: int | None
    broken_why: str | None


@dataclass(frozen=True)
class Me:
    """The person of the session."""

    account: str
    role: str
    csrf: str


@dataclass(frozen=True)
class Kept:
    """A word that was kept, with its link of the chain."""

    criteria: tuple[str, ...]
    kind: str
    link: int
    seal: str


def _plane(request: Request) -> Plane:
    plane: Plane = request.app.state.plane
    return plane


def _day(request: Request, as_of: str | None) -> date | None:
    return queries.day_asked(as_of, queries.today_of(_plane(request)))


def _tongue(request: Request) -> Tongue:
    return pages.face_of(request).tongue


def _many(items: list[T], page: str | None) -> Many[T]:
    part = queries.Part.of(items, page)
    return Many(list(part.items), part.page, part.pages, part.total)


# ------------------------------------------------------------------------------------------------ endpoints


def overview(
    request: Request, as_of: AsOf = None, law: UnderLaw = None, blockers: Annotated[int, Query(ge=0, le=500)] = 3
) -> Answer[Overview]:
    """Levels, gaps, days left, blockers and trend."""
    return Answer(_plane(request).overview(_day(request, as_of), blockers, queries.law_asked(law)))


def session(request: Request) -> Answer[Me]:
    """Who is logged in, and the token that a program sends back with a POST, in the header X-CSRF-Token."""
    mine = request.state.session
    return Answer(Me(mine.account.name, mine.account.role, mine.csrf))


def score(request: Request, as_of: AsOf = None, law: UnderLaw = None) -> Answer[Scorecard]:
    """The scorecard: every criterion, every group with its pair of levels, overall levels."""
    return Answer(_plane(request).judgement(_day(request, as_of), queries.law_asked(law)).card)


def difference(
    request: Request,
    before: Annotated[str, Query(alias="from", description="A day or a round; nothing: yesterday.")] = "",
    after: Annotated[str, Query(alias="to", description="A later one; nothing: now, or the newest round.")] = "",
) -> Answer[Difference]:
    """Which levels, criteria and findings moved, and because of what."""
    plane = _plane(request)
    return Answer(moving.between(plane, moving.ends_of(plane, before, after)))


def duties(request: Request, level: str = "") -> Answer[list[Due]]:
    """Duties by date with the days that are left, the soonest first."""
    return Answer(list(law_page.dues_of(_plane(request), level)))


def level(request: Request) -> Answer[Determination]:
    """The security level by the answers in the query: the names of its parameters are those of the questions."""
    return Answer(law_page.determination_of(_plane(request), request.query_params))


def plan(request: Request) -> Answer[plan_page.Answered]:
    """What lies ahead; the parameters are those of the page, for example ?item_1=ups&quantity_1=1&goal=tt13-2025/emr.

    ``item_N``, ``quantity_N``, ``price_N`` (VND for one), ``play``, ``lose``, ``confirm`` (FRAMEWORK/GROUP), ``goal``,
    ``list`` and ``table`` (1: taken for complete), ``play_hours``, ``document_hours``, ``hour_price``.
    """
    return Answer(plan_page.answer_of(_tongue(request).what_if, _plane(request), request.query_params))


def declare_word(request: Request, form: Form) -> Answer[Kept]:
    """Keep somebody's word about criteria with its documents, as the form of the page does."""
    try:
        word, link = saying.say(request, _tongue(request), form)
    except saying.FormError as error:
        raise RequestError(400, "bad_word", why=error.sentence) from None
    return Answer(Kept(word.criteria, str(word.kind), link.seq, link.seal))


def criteria(
    request: Request,
    framework: str = "",
    group: str = "",
    verdict: str = "",
    standing: str = "",
    level: str = "",
    q: str = "",
    page: PageNumber = None,
    as_of: AsOf = None,
    law: UnderLaw = None,
) -> Many[CriterionLine]:
    """Every criterion with its word and reason; the filters are those of the page."""
    asked = {"framework": framework, "group": group, "verdict": verdict, "standing": standing, "level": level, "q": q}
    rows = queries.criterion_rows(_plane(request).judgement(_day(request, as_of), queries.law_asked(law)))
    return _many([_line(row) for row in queries.filter_rows(rows, asked)], page)


def _line(row: queries.CriterionRow) -> CriterionLine:
    c, s = row.criterion, row.score
    return CriterionLine(
        c.id,
        c.framework,
        c.group,
        c.levels,
        c.title,
        c.clause,
        str(c.standing),
        c.scored,
        str(s.verdict),
        str(s.reason.code),
        s.reason.figures,
        c.checks,
    )


def criterion(request: Request, criterion: str, as_of: AsOf = None, law: UnderLaw = None) -> Answer[Explanation]:
    """A criterion down to its observations, the words people gave, and the digests of their bytes."""
    try:
        return Answer(_plane(request).explain(criterion, _day(request, as_of), queries.law_asked(law)))
    except KeyError:
        raise RequestError(404, "no_criterion", criterion=criterion[:80]) from None


def checks(request: Request, page: PageNumber = None) -> Many[Check]:
    """Every check: fact, rule, freshness, remedy and the criteria it serves."""
    catalog = _plane(request).catalog
    return _many(sorted(catalog.checks.values(), key=lambda check: check.id), page)


def assets(request: Request, page: PageNumber = None) -> Many[queries.AssetRow]:
    """Every asset with its newest looks; never with the ways into it."""
    plane = _plane(request)
    return _many(queries.asset_rows(plane, plane.judgement()), page)


def asset(request: Request, name: str) -> Answer[AssetStory]:
    """One asset with its newest observations and findings."""
    plane = _plane(request)
    story = queries.asset_story(plane, plane.judgement(), name)
    return Answer(AssetStory(story.asset, story.observations, story.findings))


def rounds(request: Request, page: PageNumber = None) -> Many[RoundView]:
    """Rounds, the newest first."""
    return _many(_plane(request).archive.rounds(1000), page)


def round_(request: Request, round_id: str) -> Answer[queries.RoundStory]:
    """One round: its looks, what it sealed, and what moved since the round before."""
    return Answer(queries.round_story(_plane(request), round_id))


def runs(request: Request, page: PageNumber = None) -> Many[RunLine]:
    """Runs of plays, the newest first."""
    return _many([_run_line(row) for row in _plane(request).archive.runs(1000)], page)


def _run_line(row: Mapping[str, Any]) -> RunLine:
    names = ("id", "play", "mode", "state", "started_at", "ended_at", "hosts", "dossier")
    return RunLine(**{name: row[name] for name in names})


def run(request: Request, run_id: str) -> Answer[dict[str, Any]]:
    """One run with its change dossier."""
    return Answer(queries.run_of(_plane(request), run_id))


def backups(request: Request, page: PageNumber = None) -> Many[Proof]:
    """Proofs of backups, the newest first; the bytes of minutes stand under their digest."""
    return _many(_plane(request).proofs(1000), page)


def chain(request: Request) -> Answer[Chain]:
    """The head of the chain of evidence, and the first break if there is one."""
    plane = _plane(request)
    head, broken = plane.archive.head(), plane.chain_state()
    return Answer(
        Chain(
            head.seq if head else 0,
            head.at if head else None,
            head.seal if head else GENESIS,
            broken is None,
            broken.seq if broken else None,
            broken.code if broken else None,
        )
    )


def raw(request: Request, sha256: str) -> Response:
    """The bytes under a digest, as they came. The download is linked in the chain."""
    data = queries.raw_of(_plane(request), sha256)
    pages.link_download(pages.face_of(request), "raw", sha256=sha256)
    return Response(data, media_type="application/octet-stream", headers=pages.attachment(f"{sha256[:16]}.bin"))


def openapi(request: Request) -> dict[str, Any]:
    """This API as OpenAPI 3.1."""
    app: FastAPI = request.app
    return app.openapi()


BYTES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}

API = (
    ("/overview", overview, "Levels, gaps, deadlines, blockers"),
    ("/criteria", criteria, "Criteria with their verdicts"),
    ("/criteria/{criterion}", criterion, "A criterion explained down to the bytes"),
    ("/session", session, "Who is logged in"),
    ("/score", score, "The scorecard"),
    ("/difference", difference, "What moved between two days or rounds, and why"),
    ("/duties", duties, "Duties with the days that are left"),
    ("/level", level, "The security level by given answers"),
    ("/plan", plan, "What-if, the cheapest way, forecast, evidence that ends"),
    ("/checks", checks, "Checks"),
    ("/assets", assets, "Assets with their newest looks"),
    ("/assets/{name}", asset, "An asset with observations and findings"),
    ("/rounds", rounds, "Rounds"),
    ("/rounds/{round_id}", round_, "A round and what it moved"),
    ("/runs", runs, "Runs of plays"),
    ("/runs/{run_id}", run, "A run with its change dossier"),
    ("/backups", backups, "Proofs of backups"),
    ("/chain", chain, "Head and state of the chain of evidence"),
    ("/raw/{sha256}", raw, "The bytes under a digest"),
)


FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["criterion", "kind", "by", "statement"],
                    "properties": {
                        **{name: {"type": "string"} for name in ("criterion", "also", "by", "statement", "number")},
                        **{name: {"type": "string", "format": "date"} for name in saying.DAYS},
                        "signer": {"type": "string"},
                        "count": {"type": "integer", "minimum": 0},
                        "kind": {"type": "string", "enum": [str(kind) for kind in Declared]},
                        "document": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            }
        },
    }
}


def mount(app: FastAPI) -> None:
    """Hang the API into the app."""
    failures: dict[int | str, dict[str, Any]] = {
        status: {"model": Failure, "description": words}
        for status, words in ((400, "A bad request"), (401, "Not logged in"), (403, "Not allowed"))
    }
    for path, endpoint, summary in API:
        missing: dict[int | str, dict[str, Any]] = {404: {"model": Failure, "description": "Not there"}}
        app.add_api_route(
            f"{access.API}{path}",
            endpoint,
            methods=["GET"],
            summary=summary,
            tags=["emr"],
            responses=failures | (missing if "{" in path else {}) | (BYTES if endpoint is raw else {}),
            operation_id=endpoint.__name__.strip("_"),
        )
    app.add_api_route(
        f"{access.API}/declarations",
        declare_word,
        methods=["POST"],
        status_code=201,
        summary="Keep a person's word with its documents",
        tags=["emr"],
        responses=failures | {413: {"model": Failure, "description": "Too large"}},
        operation_id="declare",
        openapi_extra=FORM,
    )
    app.add_api_route(f"{access.API}/openapi.json", openapi, methods=["GET"], include_in_schema=False)
