"""What clinical systems and the servers beside them speak: DICOM, DICOMweb, HL7 v2, FHIR, SMTP, PostgreSQL.

It refuses everything that could name a patient: no worklist is read, no study is listed, no message is delivered.
"""

from __future__ import annotations

import re

from controlplane.collect.facts.service_text import Answer, one_of, step_ms
from controlplane.collect.facts.service_web import MODERN
from controlplane.domain.model import Fact, Value

_STORAGE = ("angiography", "computed_radiography", "ct", "digital_x_ray", "mr", "ultrasound")
_LISTS = ("performed_step", "storage_commitment", "study_move", "study_query", "worklist")
_ACKNOWLEDGEMENTS = ("AA", "AE", "AR", "CA", "CE", "CR")


def _dicom(raw: str) -> Value:
    """Whether a C-ECHO succeeded, and how long association and echo took."""
    answer = Answer(raw)
    status = answer.maybe_integer("echo_status")
    return {
        "echo": "none" if status is None else "success" if status == 0 else f"{status & 0xFFFF:04X}",
        "answers": status == 0,
        "encrypted": answer.flag("encrypted"),
        "response_ms": step_ms(answer.integer("time_ms")),
    }


def _contexts(raw: str) -> Value:
    """Which kinds of images would be taken and which lists would be given, by the contexts that were accepted."""
    answer = Answer(raw)
    storage, lists = answer.words("storage"), answer.words("lists")
    for name in storage:
        one_of(name, _STORAGE)
    for name in lists:
        one_of(name, _LISTS)
    missing = [name for name in _STORAGE if name not in storage]
    return {"storage": storage, "missing": missing, "missing_count": len(missing)} | {
        name: name in lists for name in _LISTS
    }


def _stranger(raw: str) -> Value:
    """Whether a title that the archive does not know is turned away."""
    answer = Answer(raw)
    word = one_of(answer.text("association"), ("accepted", "rejected", "no_service"))
    answer.integer("services")
    return {"association": word, "turned_away": word != "accepted"}


def _dicomweb(raw: str) -> Value:
    """Whether QIDO-RS answers a query that matches nothing."""
    answer = Answer(raw)
    if answer.integer("studies") != 0:
        raise ValueError("a study was found under a number that nobody has")
    return {"answers": answer.flag("answers"), "encrypted": answer.flag("encrypted")}


def _hl7(raw: str) -> Value:
    """An acknowledgement of any kind proves an HL7 listener: even a refusal is written in HL7."""
    answer = Answer(raw)
    version = answer.maybe_text("version")
    if version is not None and not re.fullmatch(r"2(\.[0-9]){0,2}", version, re.ASCII):
        raise ValueError("no version of HL7")
    step_ms(answer.integer("time_ms"))
    return {
        "listens": True,
        "acknowledgement": one_of(answer.text("acknowledgement"), _ACKNOWLEDGEMENTS),
        "version": version,
        "encrypted": answer.flag("encrypted"),
    }


def _fhir(raw: str) -> Value:
    """The version that the server declares, and whether it knows documents."""
    answer = Answer(raw)
    kinds = answer.words("resources")
    return {
        "capability": answer.text("resource_type") == "CapabilityStatement",
        "version": answer.maybe_text("fhir_version"),
        "resources": len(kinds),
        "documents": "Composition" in kinds or "DocumentReference" in kinds,
    }


def _smtp(raw: str) -> Value:
    """Whether mail is taken over TLS, and whether a password may be sent without."""
    answer = Answer(raw)
    version = answer.maybe_text("tls_version")
    return {
        "answers": True,
        "starttls": answer.flag("starttls"),
        "encrypted": answer.flag("starttls") and version in MODERN,
        "log_in_before_tls": answer.flag("log_in_before_tls"),
    }


def _sql(raw: str) -> Value:
    """Whether the database takes TLS and turns away a log-in without it."""
    answer = Answer(raw)
    version = answer.maybe_text("tls_version")
    plain = one_of(answer.text("plain"), ("refused", "log_in", "open"))
    return {
        "engine": one_of(answer.text("engine"), ("postgresql",)),
        "encrypted": version in MODERN,
        "plain": plain,
        "plain_refused": plain == "refused",
        "wants_a_log_in": plain != "open",
    }


FACTS: tuple[Fact, ...] = (
    Fact("service.dicom", "service", "DICOM C-ECHO", _dicom, "milliseconds, in steps", "DICOM PS3.7 9.1.5"),
    Fact(
        "service.dicom_contexts",
        "service",
        "DICOM association: storage of six kinds of images, worklist, query, move, performed step, commitment",
        _contexts,
        "kinds of images that are not taken",
        "DICOM PS3.8 7.1.1, PS3.4 annexes B, F, J, K",
    ),
    Fact(
        "service.dicom_stranger",
        "service",
        "DICOM association under a title that nobody knows",
        _stranger,
        "-",
        "DICOM PS3.8 9.3.4",
    ),
    Fact(
        "service.dicomweb",
        "service",
        "GET studies?StudyInstanceUID=2.25.303985204610245673158093250347120&limit=1 (a study that nobody has)",
        _dicomweb,
        "-",
        "QIDO-RS: DICOM PS3.18 10.6",
    ),
    Fact(
        "service.hl7",
        "service",
        "HL7 NMQ^N01 over MLLP, marked as training: the code in MSA-1",
        _hl7,
        "-",
        "HL7 v2.5, chapters 2 and 14; MLLP",
    ),
    Fact("service.fhir", "service", "GET metadata", _fhir, "kinds of resources", "FHIR: RESTful API, capabilities"),
    Fact("service.smtp", "service", "SMTP EHLO, STARTTLS, QUIT", _smtp, "-", "RFC 5321, RFC 3207"),
    Fact(
        "service.sql",
        "service",
        "PostgreSQL SSLRequest, and a log-in without TLS up to the server's first word",
        _sql,
        "-",
        "PostgreSQL frontend/backend protocol 3.0, 55.2",
    ),
)
