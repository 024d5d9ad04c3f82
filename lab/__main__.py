"""script/lab: bring the lab up and down and reach its hosts; it refuses to work without root."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from lab import base, handover, hosts, network, provision, vm
from lab.folder import Folder, LabError, say
from lab.hosts import Running
from lab.plan import HOSTS, NAME, SMALL, SWITCHBOARD, Host, host

_READY_SECONDS = 60.0
_NAMES = [one.name for one in HOSTS]


def up(folder: Folder, fresh: bool, small: bool) -> None:
    """Bring up what is not up: base trees, network, hosts, and the files that programs need to reach them."""
    began = time.monotonic()
    refuse_other_folder(folder)
    base.need_tools()
    base.build(folder)
    handover.make_keys(folder)
    running = [one for one in HOSTS if Running.recalled(folder, one.name)]
    whole = not small or (bool(running) and not fresh and bool(folder.remembered().get("whole")))
    if fresh or not running or not network.complete():
        running = []
        clean(folder)
    if fresh:
        hosts.forget_roots(folder)
    missing = [one for one in (HOSTS if whole else SMALL) if one not in running]
    make_host_keys(folder, missing)
    if not running:
        folder.remember({"hosts": {}, "made_netns_mount": network.build(folder)})
    folder.remember(folder.remembered() | {"whole": whole})
    rights = provision.reader_rights()
    if rights.missing:
        say(f"The reading account is not tied to one script yet: {rights.missing}.")
    network.mend(running)
    for one in running:
        refresh(folder, one, rights)
    switch_on(folder, missing, rights, known=bool(running))
    handover.write_known_hosts(folder)
    handover.write_inventories(folder, whole)
    started = " ".join(one.name for one in missing) or "nothing, all were up"
    say(f"The lab is up after {time.monotonic() - began:.1f} s (started: {started}).")
    say(f"Inventory {folder.hospital if whole else folder.inventory}; reach the hosts with script/lab exec CMD...")


def make_host_keys(folder: Folder, wanted: list[Host]) -> None:
    """Make the SSH host keys that are missing, several at a time: the large ones take their while."""
    lacking = [one.name for one in wanted if "ssh" in one.services and not folder.host_keys(one.name).is_dir()]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(lambda name: provision.new_host_keys(folder, name), lacking))


def switch_on(folder: Folder, wanted: list[Host], rights: provision.ReaderRights, known: bool = True) -> None:
    """Start hosts and wait until each answers; a host whose systemd does not boot here is started without it.

    ``known`` says that something of them may still stand: what a crash left of them ends first.
    """
    began = time.monotonic()
    if known:
        hosts.stop(folder, wanted)
        network.mend(wanted)
    for one in wanted:
        hosts.start(folder, one, rights)
        say(f"  {one.name} {one.address} started")
    plain = [one for one in wanted if not one.systemd]
    if wrong := hosts.awaited(folder, plain, _READY_SECONDS):
        raise LabError(f"Not every host came up: {wrong}.")
    for one in (one for one in wanted if one.systemd):
        wait_for_systemd(folder, one, rights)
    if wanted:
        say(f"  all of them answer ({time.monotonic() - began:.1f} s)")


def wait_for_systemd(folder: Folder, one: Host, rights: provision.ReaderRights) -> None:
    """Wait for a host booted by systemd-nspawn, and fall back to namespaces alone when it does not come."""
    words = hosts.awaited(folder, [one], _READY_SECONDS)
    if not words:
        return
    say(f"  {one.name} does not boot with systemd-nspawn here ({words}); starting it without systemd.")
    hosts.stop(folder, [one])
    hosts.start(folder, one, rights, note=f"no systemd: systemd-nspawn did not boot it ({words})")
    if wrong := hosts.awaited(folder, [one], _READY_SECONDS):
        raise LabError(f"Not every host came up: {wrong}.")


def refresh(folder: Folder, one: Host, rights: provision.ReaderRights) -> None:
    """Bring the reader's rights in a running host up to date with the product."""
    running = Running.recalled(folder, one.name)
    if running and running.first and "ssh" in one.services:
        root = provision.live_root(running.first, base.tree(folder, one.tree))
        provision.put_reader_rights(root, folder, rights)


def clean(folder: Folder) -> None:
    """End every process of the lab, then delete its namespaces; nothing is assumed about how it came to this."""
    vm.stop(folder)
    hosts.stop(folder, HOSTS)
    network.remove(bool(folder.remembered().get("made_netns_mount")))
    folder.remember({"hosts": {}})


def down(folder: Folder, purge: bool) -> None:
    """Take the lab down; with ``purge`` also delete its hosts, keys and secrets, but not the base trees."""
    began = time.monotonic()
    refuse_other_folder(folder)
    clean(folder)
    for overlay in (folder.inventory, folder.hospital, folder.vlans):
        overlay.unlink(missing_ok=True)  # its addresses mean nothing, or someone else, from here on
    if purge:
        hosts.forget_roots(folder)
        for name in ("hostkeys", "keys", "secrets"):
            shutil.rmtree(folder.path / name, ignore_errors=True)
        for name in ("known_hosts", "state.json"):
            (folder.path / name).unlink(missing_ok=True)
    say(f"The lab is down ({time.monotonic() - began:.1f} s).")


def status(folder: Folder, as_json: bool) -> int:
    """Print each host; 0 when all that were asked for are up, 1 otherwise."""
    rows = hosts.state(folder, HOSTS if folder.remembered().get("whole", True) else SMALL)
    if as_json:
        say(json.dumps({"folder": str(folder.path), "hosts": rows}, indent=1))
    else:
        for row in rows:
            words = f"{row['name']:14} {row['address']:12} {'up' if row['up'] else 'down':5}"
            if row["up"]:
                words += f"{row['how']:11} pid {row['pid']:<8} {row['memory_kib'] / 1024:6.1f} MiB  {row['note']}"
            say(words.rstrip())
    return 0 if all(row["up"] for row in rows) else 1


def rekey(folder: Folder, one: Host) -> None:
    """Give a host new SSH host keys without telling anybody; the next ``up`` writes them into known_hosts."""
    provision.new_host_keys(folder, one.name)
    running = Running.recalled(folder, one.name)
    if running and running.first:
        provision.put_host_keys(provision.live_root(running.first, base.tree(folder, one.tree)), folder, one.name)
        subprocess.run(hosts.enter(running.first, ["service", "ssh", "restart"]), capture_output=True, check=True)
        if wrong := hosts.awaited(folder, [one], _READY_SECONDS):
            raise LabError(f"Host {one.name} does not answer after its keys were changed: {wrong}.")
    say(f"{one.name} has new host keys; known_hosts still holds the old ones.")


def change(folder: Folder, verb: str, one: Host) -> None:
    """Stop, start, rekey, cut or mend one host of a lab that is up."""
    refuse_other_folder(folder)
    if not network.complete():
        raise LabError("The lab is not up; bring it up with script/lab up.")
    running = Running.recalled(folder, one.name)
    if verb == "rekey":
        rekey(folder, one)
        return
    if verb == "stop":
        hosts.stop(folder, [one])
        hosts.unplug([one])
    elif verb == "start" and not running:
        make_host_keys(folder, [one])
        handover.write_known_hosts(folder)
        switch_on(folder, [one], provision.reader_rights())
    elif verb == "cut":
        network.cut(one)
    elif verb == "mend":
        network.mend([one])
    say(f"{one.name}: {verb} done.")


def refuse_other_folder(folder: Folder) -> None:
    """Raise when the lab that is up under this name belongs to another folder."""
    owner = network.owner()
    if owner and owner != str(folder.path):
        raise LabError(
            f"The lab of another folder is up on this machine under the name {NAME}; take it down with "
            f"EMRCTL_LAB_DIR={owner} script/lab down, or give this one a name of its own (EMRCTL_LAB_NAME)."
        )


def become(argv: list[str]) -> None:
    """Replace this program by another one; raises when there is no such program."""
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a shell is what we do not want
    except OSError as error:
        raise LabError(f"`{argv[0]}` cannot be run: {error.strerror}.") from None


def run_in_lab(command: list[str]) -> None:
    """Become ``command`` in the namespace from which the hosts can be reached."""
    if network.inode(SWITCHBOARD) is None:
        raise LabError("The lab is not up; bring it up with script/lab up.")
    become(["nsenter", f"--net={network.NETNS / SWITCHBOARD}", "--", *command])


def run_in_host(folder: Folder, one: Host, command: list[str]) -> None:
    """Become ``command`` inside a host, as root there."""
    running = Running.recalled(folder, one.name)
    first = running.first if running else None
    if first is None:
        raise LabError(f"Host {one.name} is not up.")
    become(hosts.enter(first, command))


def guest(folder: Folder, args: argparse.Namespace) -> int:
    """What concerns the QEMU guest; the exit code."""
    if args.what == "exec":
        if not args.command or vm.Running.recalled(folder) is None:
            raise LabError("script/lab vm exec needs a program to run, and the guest to be up.")
        become(vm.command(folder, args.command))
    if args.what == "status":
        row = vm.status(folder)
        say(json.dumps(row))
        return 0 if row["up"] else 1
    with folder.locked():
        if args.what == "up":
            refuse_other_folder(folder)
            vm.up(folder)
        elif args.what == "down":
            vm.stop(folder)
            say("The guest is down.")
        elif args.what in ("pull", "plug"):
            (vm.pull if args.what == "pull" else vm.plug)(folder, args.serial)
        else:
            vm.judge(folder, args.serial, failing=args.what == "fail")
    return 0


def guest_arguments(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The verbs of the QEMU guest."""
    one = verbs.add_parser("vm", help="a QEMU guest with a kernel and disks of its own")
    what = one.add_subparsers(dest="what", required=True, metavar="WHAT")
    what.add_parser("up", help="build its disk if needed and start it from there, unless it is up")
    what.add_parser("down", help="switch it off and forget what it has written")
    what.add_parser("status", help="tell of it as JSON")
    one = what.add_parser("exec", help="run a program in it, as root")
    one.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD...")
    for verb, words in (
        ("pull", "pull a disk out while it runs"),
        ("plug", "plug a disk in while it runs: a new one, or one that was pulled"),
        ("fail", "let an NVMe disk say of itself that it fails (SMART)"),
        ("heal", "undo fail"),
    ):
        one = what.add_parser(verb, help=words)
        one.add_argument("serial", type=serial_number, metavar="SERIAL")


def serial_number(text: str) -> str:
    """A disk's serial number that QEMU takes as a name, too."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,18}", text):
        raise argparse.ArgumentTypeError("a serial number is a letter and then letters, digits and hyphens, 19 at most")
    return text


def arguments() -> argparse.ArgumentParser:
    """The verbs."""
    parser = argparse.ArgumentParser(prog="script/lab", description="Real hosts on this machine, in namespaces.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    one = verbs.add_parser("up", help="bring up whatever is not up")
    one.add_argument("--small", action="store_true", help="one host of each kind only, unless the whole lab is up")
    one.add_argument("--fresh", action="store_true", help="forget what the hosts have written")
    one = verbs.add_parser("down", help="take everything down")
    one.add_argument("--purge", action="store_true", help="delete the hosts, keys and secrets, too")
    one = verbs.add_parser("status", help="tell each host")
    one.add_argument("--json", action="store_true", help="as JSON")
    one = verbs.add_parser("exec", help="run a program in the network of the lab")
    one.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD...")
    one = verbs.add_parser("in", help="run a program inside a host, as root")
    one.add_argument("host", choices=_NAMES)
    one.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD...")
    for verb, words in (
        ("stop", "switch a host off"),
        ("start", "switch a host on"),
        ("rekey", "give a host new SSH host keys"),
        ("cut", "swallow every packet to and from a host"),
        ("mend", "undo cut"),
    ):
        one = verbs.add_parser(verb, help=words)
        one.add_argument("host", choices=_NAMES)
    guest_arguments(verbs)
    return parser


def work(args: argparse.Namespace) -> int:
    """Do what was asked; the exit code."""
    if os.geteuid() != 0:
        raise LabError(
            "The lab needs root: it makes namespaces, mounts and network cards. Run it as root or with sudo."
        )
    if not re.fullmatch(r"[a-z][a-z0-9]{0,7}", NAME):
        raise LabError(f"EMRCTL_LAB_NAME is {NAME!r}; it must be one to eight small letters and digits.")
    folder = Folder.chosen()
    if args.verb == "vm":
        return guest(folder, args)
    if args.verb in ("exec", "in") and not args.command:
        raise LabError(f"script/lab {args.verb} needs a program to run.")
    if args.verb == "exec":
        run_in_lab(args.command)
    if args.verb == "in":
        run_in_host(folder, host(args.host), args.command)
    if args.verb == "status":
        return status(folder, args.json)
    with folder.locked():
        if args.verb == "up":
            up(folder, args.fresh, args.small)
        elif args.verb == "down":
            down(folder, args.purge)
        else:
            change(folder, args.verb, host(args.host))
    return 0


def main() -> int:
    """The program; errors are one sentence on standard error."""
    try:
        return work(arguments().parse_args())
    except LabError as error:
        print(f"script/lab: {error}", file=sys.stderr)
    except OSError as error:
        print(f"script/lab: {error.filename or 'a system call'}: {error.strerror}.", file=sys.stderr)
    except KeyboardInterrupt:
        print("script/lab: interrupted; run it again, it takes up where it was.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
