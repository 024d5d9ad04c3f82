"""QEMU's own monitor in its JSON form (QMP), over the socket in a guest's folder; it starts and ends no machine."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.folder import LabError

_SECONDS = 30.0


class Monitor:
    """One conversation with a running QEMU. Raises LabError when there is none, or when it says no."""

    def __init__(self, folder: Path) -> None:
        # By the folder's descriptor, because the path of a socket may have a hundred characters at most.
        self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        self._line = socket.socket(socket.AF_UNIX)
        self._rest = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Monitor:
        try:
            self._line.settimeout(_SECONDS)
            self._line.connect(f"/proc/self/fd/{self._folder}/qmp")
        except OSError as error:
            self.__exit__(None, None, None)
            raise LabError(f"The guest's monitor does not answer: {error.strerror or error}.") from None
        try:
            self._read(_SECONDS)  # the greeting
            self.ask("qmp_capabilities")
        except LabError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._line.close()
        os.close(self._folder)

    def ask(self, name: str, **arguments: Any) -> Any:
        """Give one command and return what it answers."""
        self._line.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        while True:
            told = self._read(_SECONDS)
            if "error" in told:
                raise LabError(f"The guest's monitor refuses {name}: {told['error'].get('desc', '')}")
            if "return" in told:
                return told["return"]
            self._events.append(told)

    def await_event(self, name: str, device: str, seconds: float) -> None:
        """Wait until QEMU tells this of that device."""
        end = time.monotonic() + seconds
        while not any(e.get("event") == name and e.get("data", {}).get("device") == device for e in self._events):
            left = end - time.monotonic()
            if left <= 0:
                raise LabError(f"The guest did not let go of {device} within {seconds:.0f} s.")
            self._events.append(self._read(left))

    def _read(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            self._line.settimeout(max(0.01, end - time.monotonic()))
            try:
                more = self._line.recv(65536)
            except TimeoutError:
                raise LabError(f"The guest's monitor says nothing within {seconds:.0f} s.") from None
            if not more:
                raise LabError("The guest's monitor hung up.")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        told = json.loads(line)
        return told if isinstance(told, dict) else {}
