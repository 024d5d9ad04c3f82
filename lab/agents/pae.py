"""802.1X of a switch for snmpd (pass_persist): what hostapd guards on its wired ports, as IEEE8021-PAE-MIB says it.

The state is the real authenticator's, asked over its control sockets; the mapping to the MIB is ours. Arguments: the
folder of hostapd's control sockets.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.agents.persist import Table, oid, serve

_SYSTEM = oid(".1.0.8802.1.1.1.1.1.1.0")
_CONTROL = oid(".1.0.8802.1.1.1.1.2.1.1.6")
_AUTO = "2"


def guarded(folder: Path) -> list[str]:
    """The ports whose authenticator answers."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ask:
            ask.settimeout(1)
            try:
                ask.bind("")  # a nameless address, which hostapd can answer from another mount namespace
                ask.connect(str(path))
                ask.send(b"PING")
                if ask.recv(64).startswith(b"PONG"):
                    found.append(path.name)
            except OSError:
                continue
    return found


def read_table(folder: Path) -> Table:
    """Whether the authenticator is on, and its ports by interface index."""
    ports = guarded(folder)
    table: Table = {_SYSTEM: ("integer", "1" if ports else "2")}
    for name in ports:
        table[(*_CONTROL, socket.if_nametoindex(name))] = ("integer", _AUTO)
    return table


if __name__ == "__main__":
    serve(lambda: read_table(Path(sys.argv[1])))
