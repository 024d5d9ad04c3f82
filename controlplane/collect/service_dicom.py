"""What a DICOM peer agrees to: an association, an echo, and which kinds of images and lists it would take.

It refuses to store, query, move or delete anything: presentation contexts are proposed and left unused, so no
patient is ever named. pynetdicom is an extra; without it every question here is ``not_supported`` with a sentence.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controlplane.collect.service_wire import ProbeError, Url, Wire, lenient_context, secure
from controlplane.domain.model import Outcome

STRANGER = "EMRCTLSTRANGER"
"""An application entity title that no archive has any reason to know."""

_VERIFICATION = "1.2.840.10008.1.1"
STORAGE = {
    "ct": "1.2.840.10008.5.1.4.1.1.2",
    "mr": "1.2.840.10008.5.1.4.1.1.4",
    "computed_radiography": "1.2.840.10008.5.1.4.1.1.1",
    "digital_x_ray": "1.2.840.10008.5.1.4.1.1.1.1",
    "ultrasound": "1.2.840.10008.5.1.4.1.1.6.1",
    "angiography": "1.2.840.10008.5.1.4.1.1.12.1",
}
LISTS = {
    "worklist": "1.2.840.10008.5.1.4.31",
    "study_query": "1.2.840.10008.5.1.4.1.2.2.1",
    "study_move": "1.2.840.10008.5.1.4.1.2.2.2",
    "performed_step": "1.2.840.10008.3.1.2.3.3",
    "storage_commitment": "1.2.840.10008.1.20.1",
}
_MOST_BYTES = 1_000_000
_TRIES = 3
_QUICK_SECONDS = 1.0
_REJECTED_TITLES = {3: "our AE title", 7: "the called AE title"}


def converse(wire: Wire, dicom: Mapping[str, Any], host: str) -> dict[str, Any]:
    """One association with an echo. Raises ``ProbeError``: ``auth_failed`` when an AE title is not known there."""
    wanted = {"echo": _VERIFICATION, **STORAGE, **LISTS}
    began = time.monotonic()
    with _association(wire, dicom, str(dicom["calling_aet"]), wanted, host) as association:
        if not association.is_established:
            raise _why_not(association, wire, dicom)
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        echo = association.send_c_echo().get("Status") if _VERIFICATION in accepted else None
        took = round((time.monotonic() - began) * 1000)
        association.release()
    return {
        "echo_status": echo,
        "time_ms": took,
        "encrypted": bool(dicom.get("tls", False)),
        "storage": [name for name, uid in STORAGE.items() if uid in accepted],
        "lists": [name for name, uid in LISTS.items() if uid in accepted],
    }


def as_stranger(wire: Wire, dicom: Mapping[str, Any], host: str) -> dict[str, Any]:
    """How an association under an unknown title ends: ``rejected``, or what the stranger would be allowed."""
    with _association(wire, dicom, STRANGER, {**STORAGE, **LISTS}, host) as association:
        if association.is_established:
            accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
            association.release()
            return {"association": "accepted", "services": len(accepted)}
        if association.is_rejected:
            return {"association": "rejected", "services": 0}
        if association.acceptor.primitive is not None:
            return {"association": "no_service", "services": 0}
        raise _why_not(association, wire, dicom)


@contextlib.contextmanager
def _association(
    wire: Wire, dicom: Mapping[str, Any], calling: str, wanted: Mapping[str, str], host: str
) -> Iterator[Any]:
    """An association, settled in one way or the other, and ended with every socket it opened.

    A peer that rejects and closes at once is sometimes seen as a connection that was cut; so a cut is tried again.
    """
    opened: list[Any] = []
    association = None
    try:
        for _ in range(_TRIES):
            began = time.monotonic()
            association = _associate(wire, dicom, calling, wanted, host, opened)
            if _is_settled(association) or time.monotonic() - began > _QUICK_SECONDS:
                break
            _end(association)
        yield association
    finally:
        _end(association)
        for sock in opened:  # the library leaves a socket open that the other side closed first
            with contextlib.suppress(OSError):
                sock.close()


def _associate(
    wire: Wire, dicom: Mapping[str, Any], calling: str, wanted: Mapping[str, str], host: str, opened: list[Any]
) -> Any:
    try:
        from pynetdicom import AE, evt  # noqa: PLC0415  # an extra: the rest of the house works without it
    except ImportError:
        words = "this control plane was installed without the extra “interop” (pynetdicom); nothing was sent"
        raise ProbeError(Outcome.NOT_SUPPORTED, words) from None
    port = int(dicom["port"])
    with wire.open(port) as conn:  # the words for a closed, silent or unreachable port are the same as everywhere
        if dicom.get("tls", False):
            secure(conn, lenient_context(), Url(True, host, port, ""))
    ends = wire.step_ends()
    seconds = max(ends - time.monotonic(), 0.1)
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = seconds
    for uid in wanted.values():
        entity.add_requested_context(uid)
    tls = (lenient_context(), host) if dicom.get("tls", False) else None

    def on_open(event: Any) -> None:
        opened.append(event.assoc.dul.socket.socket)
        event.assoc.dul.socket.recv = _bounded(event.assoc.dul.socket.socket, ends)

    try:
        return entity.associate(
            wire.address,
            port,
            ae_title=str(dicom["called_aet"]),
            tls_args=tls,
            evt_handlers=[(evt.EVT_CONN_OPEN, on_open)],
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ProbeError(Outcome.GARBLED, f"no association: {type(error).__name__}") from None


def _bounded(sock: Any, ends: float) -> Callable[[int], bytearray]:
    """A way to read that ends: the library itself would wait for every byte that a peer announces, up to 4 GiB."""
    left = _MOST_BYTES

    def recv(wanted: int) -> bytearray:
        nonlocal left
        if wanted > left:
            raise OSError("the peer announces more than is read")
        left -= wanted
        got = bytearray()
        while len(got) < wanted:
            seconds = ends - time.monotonic()
            if seconds <= 0:
                raise TimeoutError("the peer drips")
            sock.settimeout(seconds)
            piece = sock.recv(min(16384, wanted - len(got)))
            if not piece:
                break
            got += piece
        sock.settimeout(None)
        return got

    return recv


def _is_settled(association: Any) -> bool:
    return bool(association.is_established or association.is_rejected or association.acceptor.primitive is not None)


def _why_not(association: Any, wire: Wire, dicom: Mapping[str, Any]) -> ProbeError:
    """The words for an association that was not made."""
    primitive = association.acceptor.primitive
    if association.is_rejected and primitive is not None:
        title = _REJECTED_TITLES.get(primitive.diagnostic) if primitive.result_source == 1 else None
        if title:
            return ProbeError(Outcome.AUTH_FAILED, f"the association was rejected: {title} is not known there")
        return ProbeError(Outcome.REFUSED, "the association was rejected")
    if primitive is not None:
        return ProbeError(Outcome.REFUSED, "the association was accepted without any service of ours")
    failure = ProbeError(Outcome.GARBLED, "the port did not answer the association as a DICOM peer does, in time")
    wire.spoil(int(dicom["port"]), failure)
    return failure


def _end(association: Any) -> None:
    if association is not None and association.is_alive():
        association.abort()
