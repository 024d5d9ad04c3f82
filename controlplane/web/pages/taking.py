"""What is taken away: raw bytes, the evidence bundle, reports. Every download is a link of the chain."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta

from fastapi import Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from controlplane.backup import BackupError
from controlplane.reports.weeks import IsoWeek, WeekError
from controlplane.store.archive import BusyError
from controlplane.store.bundle import BundleError, SigningKeyError
from controlplane.web import queries
from controlplane.web.errors import RequestError
from controlplane.web.pages.face import Plain, attachment, link_download, show

PROOFS_PER_PAGE = 10
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def raw_bytes(face: Plain, sha256: str) -> Response:
    """The bytes themselves, as a file that no browser will run."""
    data = queries.raw_of(face.plane, sha256)
    link_download(face, "raw", sha256=sha256)
    ending = queries.ending(data)
    kind = "text/plain; charset=utf-8" if ending == "txt" else "application/octet-stream"
    return Response(data, media_type=kind, headers=attachment(f"{sha256[:16]}.{ending}"))


def evidence(face: Plain) -> Response:
    """How evidence leaves the house and how it is verified."""
    try:
        fingerprint, why = face.plane.key_fingerprint(), ""
    except SigningKeyError as error:
        fingerprint, why = "", str(error)
    return show(
        face,
        "evidence.html",
        fingerprint=fingerprint,
        why=why,
        head=face.plane.archive.head(),
        broken=face.plane.chain_state(),
        part=queries.Part.of(face.plane.proofs(), face.request.query_params.get("page"), PROOFS_PER_PAGE),
    )


def minutes(face: Plain, link: str) -> Response:
    """The minutes of a restore for trial, as the Word document that was kept."""
    try:
        document = face.plane.minutes_of(int(link) if re.fullmatch(r"[0-9]{1,12}", link) else 0)
    except BackupError:
        raise RequestError(404, "no_minutes", link=link[:20]) from None
    link_download(face, "minutes", sha256=hashlib.sha256(document).hexdigest())
    return Response(document, media_type=DOCX, headers=attachment(f"bien-ban-khoi-phuc-{int(link)}.docx"))


def bundle(face: Plain) -> Response:
    """Make the evidence bundle and send it; the file is removed once it was sent, the chain remembers it."""
    plane = face.plane
    folder = plane.settings.data_dir / "exports"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"minh-chung-{plane.clock().astimezone(plane.settings.timezone):%Y%m%d-%H%M%S}.zip"
    path = folder / f"{secrets.token_hex(8)}.zip"
    try:
        with plane.archive.lock("export"):
            plane.export_evidence(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        link_download(face, "bundle", sha256=sha256, bytes=path.stat().st_size)
    except BusyError:
        raise RequestError(409, "export_busy") from None
    except (BundleError, SigningKeyError, OSError) as error:
        path.unlink(missing_ok=True)
        raise RequestError(500, "no_bundle", why=str(error)) from None
    headers = attachment(name) | {"X-Content-SHA256": sha256}
    return FileResponse(path, media_type="application/zip", headers=headers, background=BackgroundTask(path.unlink))


def reports(face: Plain) -> Response:
    """The form that asks for a week."""
    week = IsoWeek.of(queries.today_of(face.plane))
    return show(face, "reports.html", week=str(week), weeks=_weeks(week), problem="")


def _weeks(newest: IsoWeek, most: int = 8) -> list[IsoWeek]:
    return [IsoWeek.of(newest.monday - timedelta(weeks=back)) for back in range(most)]


def weekly(face: Plain, week: str = "") -> Response:
    """The Word document of one week; a week that is none gets its sentence beside the form."""
    try:
        asked = IsoWeek.parse(week)
        document = face.plane.weekly_report(asked)
    except WeekError as error:
        this = IsoWeek.of(queries.today_of(face.plane))
        problem = face.tongue.words(error.words)
        return show(face, "reports.html", 400, week=str(this), weeks=_weeks(this), problem=problem)
    link_download(face, "report", week=str(asked), sha256=hashlib.sha256(document).hexdigest())
    return Response(document, media_type=DOCX, headers=attachment(f"bao-cao-tuan-{asked}.docx"))
