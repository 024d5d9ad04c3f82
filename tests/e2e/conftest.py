"""Hosts of the lab for these tests as well, and a hospital whose one server is the lab's guest."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import pytest

from tests.e2e.guest_hospital import MAIL_PORT, PORT, Storage, fresh_guest
from tests.integration.conftest import LAB, lab, whole_lab

__all__ = ["lab", "whole_lab"]

# Takes what is posted or mailed and prints it, a line each, for as long as its parent lives.
_RECEIVER = f"""
import email, email.policy, http.server, json, sys, threading
from aiosmtpd.controller import Controller
class Letters:
    async def handle_DATA(self, server, session, envelope):
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        told = {{"mail": letter["subject"], "to": envelope.rcpt_tos, "body": letter.get_content()}}
        print(json.dumps(told), flush=True)
        return "250 taken"
Controller(Letters(), hostname="10.77.0.1", port={MAIL_PORT}).start()
class Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(204); self.end_headers()
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("10.77.0.1", {PORT}), Take)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def storage(lab, tmp_path_factory):
    with fresh_guest(lab):
        place = Storage(lab, tmp_path_factory.mktemp("storage"))
        place.emrctl("init")
        place.people()
        yield place


@pytest.fixture(scope="module")
def told(lab, tmp_path_factory):
    """Where the webhook's messages arrive, a line of JSON each."""
    path = tmp_path_factory.mktemp("told") / "messages"
    with path.open("wb") as out:
        receiver = subprocess.Popen([LAB, "exec", sys.executable, "-c", _RECEIVER], stdin=subprocess.PIPE, stdout=out)
        yield lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        with contextlib.suppress(BrokenPipeError):
            receiver.communicate(b"", timeout=10)
