"""Switches of other makers, played back over SSH on the loopback: recorded replies, and what commands change in them.

The texts are those of ``tests/switches/*.json``, each with its origin. Around them: a login, the echo, a prompt that
follows the mode, paging until it is switched off, questions, refusals, and the return by the switch's own clock,
which the test turns (``time_passes``). What is set is set in the recorded rows and can be read there again.
"""

from __future__ import annotations

import copy
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import paramiko

SWITCHES = Path(__file__).resolve().parents[1] / "switches"


class Device:
    """What one switch is and holds, over all its sessions. ``armed`` is what it returns to unless it is confirmed."""

    file = ""

    def __init__(self) -> None:
        recorded = json.loads((SWITCHES / self.file).read_text(encoding="utf-8"))
        self.prompt: str = recorded["prompt"]
        self.replies = {name: row["reply"] for name, row in recorded["replies"].items()}
        self.armed: Any = None
        self.refuses = ""  # a word: a command that holds it is refused
        self.drops = ""  # a word: after such a command the switch is not to be reached any more

    def session(self) -> Any:
        """A fresh session."""
        raise NotImplementedError

    def state(self) -> str:
        """What it holds now, to be compared."""
        raise NotImplementedError

    def time_passes(self) -> None:
        """The minutes of whatever return stands pass."""
        raise NotImplementedError


# ----------------------------------------------------------------------------------------------------------- IOS


RESTART = "restart"


class Ios(Device):
    """A switch with IOS. ``archive`` is whether its configuration archive is set up."""

    file = "ios.json"

    def __init__(self, archive: bool = True) -> None:
        super().__init__()
        self.archive = archive
        blocks = re.split(r"(?m)^(?=Name: )", self.replies["show interfaces switchport"])[1:]
        ports = {block.split("\n", 1)[0].removeprefix("Name: "): block for block in blocks}
        self.running: dict[str, Any] = {"ports": ports, "vlans": {}}
        self.startup: dict[str, Any] = copy.deepcopy(self.running)

    def session(self) -> IosSession:
        """A fresh session, paged."""
        return IosSession(self)

    def state(self) -> str:
        """What is in force."""
        return json.dumps(self.running, sort_keys=True)

    def time_passes(self) -> None:
        """It rolls back to what was in force, or restarts with what was saved."""
        if self.armed is not None:
            self.running = copy.deepcopy(self.startup) if self.armed == RESTART else self.armed
            self.armed = None

    def vlans(self) -> str:
        """``show vlan brief``: the recorded table and the VLANs that were made since."""
        rows = "".join(f"{n:<4} {name:<32} active    \n" for n, name in sorted(self.running["vlans"].items()))
        return self.replies["show vlan brief"].replace("1002 fddi", rows + "1002 fddi")


LONG = {"Gi": "GigabitEthernet", "Fa": "FastEthernet"}


class IosSession:
    """One login at IOS: its mode, its page length, and what it was asked last."""

    page = 24

    def __init__(self, switch: Ios) -> None:
        self.switch, self.mode, self.at, self.asked = switch, "", "", ""

    def prompt(self) -> str:
        """The prompt of the mode; none while a question stands."""
        return "" if self.asked else f"{self.switch.prompt}{f'({self.mode})' if self.mode else ''}#"

    def answer(self, line: str) -> str:
        """What a line is answered with."""
        if self.asked:
            return self.replied(line)
        word = line.strip()
        if self.switch.refuses and self.switch.refuses in word:
            return self.switch.replies["invalid"]
        if word in ("", "end", "exit"):
            self.mode, self.at = ("", "") if word == "end" else (self.mode, self.at)
            return ""
        return self.configured(word) if self.mode else self.executed(word)

    def replied(self, line: str) -> str:
        """The answer to a question of ``reload in``."""
        asked, self.asked = self.asked, ""
        if asked == "save":
            assert line.strip() == "no", "the return must not save what it is to undo"
            self.asked = "confirm"
            return self.switch.replies["reload in"]
        self.switch.armed = RESTART if line.strip() in ("", "y") else None
        return ""

    def executed(self, word: str) -> str:
        """A line in the mode of privileged commands."""
        switch, replies = self.switch, self.switch.replies
        if word.startswith("terminal "):
            if word.startswith("terminal length "):
                self.page = int(word.rsplit(" ", 1)[1])
            return ""
        if word.startswith("configure terminal"):
            self.mode = "config"
            if "revert timer" not in word:
                return replies["configure terminal"]
            switch.armed = copy.deepcopy(switch.running)
            return replies["configure terminal revert timer"]
        if word == "configure confirm":
            missing = switch.armed is None
            switch.armed = None
            return replies["show archive config rollback timer (off)"] if missing else replies[word]
        if re.fullmatch(r"reload in \d+", word):
            self.asked = "save" if switch.running != switch.startup else "confirm"
            return replies["reload in (modified)" if self.asked == "save" else "reload in"]
        if word == "reload cancel":
            switch.armed = None
        if word == "write memory":
            switch.startup = copy.deepcopy(switch.running)
        shown = {
            "show archive": "show archive" if switch.archive else "show archive (off)",
            "show archive config rollback timer": word + (" (off)" if switch.armed in (None, RESTART) else ""),
            "show reload": word + ("" if switch.armed == RESTART else " (off)"),
        }
        if word == "show interfaces switchport":
            return "\n" + "".join(switch.running["ports"].values())
        if word == "show vlan brief":
            return switch.vlans()
        return replies.get(shown.get(word, word), replies["invalid"])

    def configured(self, word: str) -> str:
        """A line in the mode of configuration."""
        running = self.switch.running
        if found := re.fullmatch(r"vlan (\d+)", word):
            self.mode, self.at = "config-vlan", found[1]
            running["vlans"].setdefault(int(found[1]), f"VLAN{int(found[1]):04}")
        elif found := re.fullmatch(r"interface ([A-Za-z]+)([0-9/]+)", word):
            short = next((key for key, long in LONG.items() if long == found[1]), found[1]) + found[2]
            if short not in running["ports"]:
                return self.switch.replies["invalid"]
            self.mode, self.at = "config-if", short
        elif self.mode == "config-vlan" and word.startswith("name "):
            running["vlans"][int(self.at)] = word.removeprefix("name ")
        elif self.mode == "config-if" and word.startswith("switchport"):
            return self.port(word)
        else:
            return self.switch.replies["invalid"]
        return ""

    def port(self, word: str) -> str:
        """A ``switchport`` line, set in the recorded block of its port."""
        block = self.switch.running["ports"][self.at]
        forms = {
            r"switchport": None,
            r"switchport mode (access)": ("Administrative Mode", "static access"),
            r"switchport mode (trunk)": ("Administrative Mode", "trunk"),
            r"switchport access vlan (\d+)": ("Access Mode VLAN", r"\1 (VLAN\1)"),
            r"switchport trunk encapsulation (dot1q)": ("Administrative Trunking Encapsulation", r"\1"),
            r"switchport trunk native vlan (\d+)": ("Trunking Native Mode VLAN", r"\1 (VLAN\1)"),
            r"switchport trunk allowed vlan ([\d,]+)": ("Trunking VLANs Enabled", r"\1"),
            r"switchport nonegotiate": ("Negotiation of Trunking", "Off"),
        }
        for form, change in forms.items():
            if found := re.fullmatch(form, word):
                if found[0].endswith("mode trunk") and "Trunking Encapsulation: negotiate" in block:
                    return str(self.switch.replies["rejected"])
                if change:
                    name, value = change
                    block = re.sub(rf"(?m)^{name}: .*$", f"{name}: {found.expand(value)}", block)
                    self.switch.running["ports"][self.at] = block
                return ""
        return str(self.switch.replies["invalid"])


# ------------------------------------------------------------------------------------------------------ RouterOS


class RouterOs(Device):
    """A switch with RouterOS. ``filtering`` is whether its bridge tells VLANs apart."""

    file = "routeros.json"

    def __init__(self, filtering: bool = True) -> None:
        super().__init__()
        self.filtering = filtering
        names = {"ports": "/interface bridge port print terse", "vlans": "/interface bridge vlan print terse"}
        self.held = {key: self.replies[name].splitlines() for key, name in names.items()}
        self.saved: Any = None

    def session(self) -> RouterOsSession:
        """A fresh session."""
        return RouterOsSession(self)

    def state(self) -> str:
        """Its rows."""
        return json.dumps(self.held, sort_keys=True)

    def time_passes(self) -> None:
        """The scheduler runs: the saved state is loaded, and with it goes what was scheduled."""
        if self.armed is not None:
            self.held, self.armed = copy.deepcopy(self.saved), None


class RouterOsSession:
    """One login at RouterOS."""

    page = 0
    mode = ""

    def __init__(self, switch: RouterOs) -> None:
        self.switch = switch

    def prompt(self) -> str:
        """The prompt."""
        return self.switch.prompt

    def answer(self, line: str) -> str:
        """What a line is answered with."""
        switch, word = self.switch, line.strip()
        if switch.refuses and switch.refuses in word:
            return switch.replies["refused"]
        for name, key in (("/interface bridge port", "ports"), ("/interface bridge vlan", "vlans")):
            if word.startswith(f"{name} print terse"):
                return "\n".join(switch.held[key])
            if found := re.fullmatch(re.escape(name) + r" set \[find (.*?)\] (.*)", word):
                return self.set(key, found[1], found[2])
        if found := re.fullmatch(r"/interface bridge vlan add (.*)", word):
            row = f' {len(switch.held["vlans"])}   {found[1]} current-tagged="" current-untagged="" '
            switch.held["vlans"].append(row)
            return ""
        if word.startswith("/interface bridge print terse"):
            told = switch.replies["/interface bridge print terse"]
            return told if switch.filtering else told.replace("vlan-filtering=yes", "vlan-filtering=no")
        if word.startswith("/system backup save "):
            switch.saved = copy.deepcopy(switch.held)
            return switch.replies["/system backup save"]
        return self.scheduled(word)

    def scheduled(self, word: str) -> str:
        """The scheduler, and whatever else there is."""
        switch = self.switch
        if word.startswith("/system scheduler add "):
            assert 'on-event="/system backup load name=emrctl-before.backup password=\\"\\""' in word, word
            assert switch.saved is not None, "what is loaded must have been saved first"
            switch.armed = word
            return ""
        if word == "/system scheduler remove [find name=emrctl-back]":
            switch.armed = None
            return ""
        if word == "/system scheduler print count-only where name=emrctl-back":
            return "1" if switch.armed else "0"
        return switch.replies.get(word, switch.replies["bad command name"]) if word else ""

    def set(self, key: str, where: str, what: str) -> str:
        """Set words in the rows that ``where`` finds."""
        rows = self.switch.held[key]
        found = [at for at, row in enumerate(rows) if all(f" {word} " in f"{row} " for word in where.split())]
        if not found:
            return "no such item"
        for at in found:
            for name, value in re.findall(r'([a-z-]+)=("[^"]*"|\S+)', what):
                bare = value.strip('"')
                rows[at] = re.sub(rf'(?<= ){name}=("[^"]*"|\S*)', f"{name}={bare or value}", rows[at])
        return ""


# ----------------------------------------------------------------------------------------------------- over SSH


class _Door(paramiko.ServerInterface):
    """Lets the one account in, and gives it a shell."""

    def __init__(self, user: str, password: str) -> None:
        self.user, self.password, self.shell = user, password, threading.Event()

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        good = (username, password) == (self.user, self.password)
        return int(paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_pty_request(self, channel: Any, *size: Any) -> bool:
        return True

    def check_channel_shell_request(self, channel: Any) -> bool:
        self.shell.set()
        return True


class PlayedSwitch:
    """A device behind an SSH server on 127.0.0.1. ``heard`` is every line of every session: (session, mode, line)."""

    def __init__(self, device: Device, user: str = "emr", password: str = "played-back") -> None:  # noqa: S107
        self.device, self.user, self.password = device, user, password
        self.key = paramiko.ECDSAKey.generate()
        self.heard: list[tuple[int, str, str]] = []
        self.sessions = 0
        self.gone = False
        self._transports: list[paramiko.Transport] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def known_host(self) -> str:
        """Its line for a known_hosts file."""
        return f"[127.0.0.1]:{self.port} {self.key.get_name()} {self.key.get_base64()}\n"

    def lines(self, *beginnings: str) -> list[str]:
        """The lines heard that begin so, in order."""
        return [line for _, _, line in self.heard if line.startswith(beginnings)]

    def session_of(self, beginning: str) -> int:
        """The number of the session that said the first line that begins so."""
        return next(number for number, _, line in self.heard if line.startswith(beginning))

    def configured(self) -> list[str]:
        """The lines heard in the modes of configuration."""
        return [line for _, mode, line in self.heard if mode and line.strip() != "end"]

    def close(self) -> None:
        """No more sessions, and those that stand end."""
        self._listener.close()
        for transport in self._transports:
            transport.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.gone:
                connection.close()
            else:
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(self.key)
        self._transports.append(transport)
        door = _Door(self.user, self.password)
        try:
            transport.start_server(server=door)
            channel = transport.accept(20)
            if channel is None or not door.shell.wait(20):
                return
            self.sessions += 1
            self._talk(channel, self.device.session(), self.sessions)
        except (paramiko.SSHException, OSError, EOFError):
            pass  # the other side went away
        finally:
            transport.close()

    def _talk(self, channel: paramiko.Channel, session: Any, number: int) -> None:
        channel.sendall(("\r\n" + session.prompt()).encode())
        line = ""
        while received := channel.recv(1024):
            for letter in received.decode():
                if letter not in "\r\n":
                    line += letter
                    continue
                self.heard.append((number, session.mode, line))
                told = session.answer(line)
                channel.sendall(f"{line}\r\n".encode())
                self._print(channel, told, session)
                if self.device.drops and self.device.drops in line:
                    self.gone = True
                line = ""

    @staticmethod
    def _print(channel: paramiko.Channel, told: str, session: Any) -> None:
        rows = told.splitlines()
        question = told.rstrip("\n").endswith((": ", "[confirm]"))
        while session.page and len(rows) > session.page:
            page, rows = rows[: session.page], rows[session.page :]
            channel.sendall("".join(f"{row}\r\n" for row in page).encode() + b" --More-- ")
            if not channel.recv(1):
                return
        text = "\r\n".join(rows) if question else "".join(f"{row}\r\n" for row in rows)
        channel.sendall((text + session.prompt()).encode())
