"""The generated reference: settings, verbs, facts, checks, routes, metrics, exit codes, made from the code itself.

Run by ``script/docs``; ``--check`` exits 1 and names the pages that are out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.main
import yaml

from controlplane.cli import app
from controlplane.collect.facts import FACTS
from controlplane.console import rule_words
from controlplane.domain.catalog import make_catalog
from controlplane.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- made by script/docs; do not edit -->\n\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; pipes and line ends in cells are escaped."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |\n"

    return line(head) + line(["---"] * len(head)) + "".join(line(row) for row in rows)


def settings_page() -> str:
    """Every setting with its default."""
    home = str(ROOT)
    rows = []
    for name, info in Settings.model_fields.items():
        default = info.get_default(call_default_factory=True)
        shown = str(default).replace(home, "<program>") if default not in (None, "") else "-"
        rows.append([f"`{name}`", f"`EMRCTL_{name.upper()}`", f"`{shown}`", info.description or ""])
    order = (
        "Order, later wins: defaults, `/etc/emrctl/emrctl.toml`, `<data_dir>/emrctl.toml`, environment, options.\n\n"
    )
    return "# Settings\n\n" + MADE + order + table(["Name", "Environment", "Default", "Meaning"], rows)


def verbs_page() -> str:
    """Every verb of emrctl with its help."""
    text = "# emrctl\n\n" + MADE
    text += "Exit codes: 0 done · 1 failed · 2 usage · 3 some looks failed · 4 chain or bundle broken.\n"

    def walk(command: Any, path: list[str]) -> None:
        nonlocal text
        name = " ".join(path)
        if hasattr(command, "commands"):
            for verb in sorted(command.commands):
                walk(command.commands[verb], [*path, verb])
            return
        context = command.make_context(name, [], resilient_parsing=True)
        options = [
            [f"`{', '.join(p.opts)}`", p.get_help_record(context)[1] if p.get_help_record(context) else ""]
            for p in command.params
            if p.name != "help"
        ]
        text += f"\n## {name}\n\n{command.help}\n\n" + table(["Option", "Meaning"], options)

    walk(typer.main.get_command(app), ["emrctl"])
    return text


def facts_page() -> str:
    """Every fact: unit, what is asked, source."""
    rows = []
    for name, fact in sorted(FACTS.items()):
        asked = fact.ask if len(fact.ask) < 160 else fact.ask[:157] + "..."
        marks = ("root " if fact.privileged else "") + ("" if fact.keep_raw else "raw not kept")
        rows.append([f"`{name}`", fact.family, fact.unit, f"`{asked}`", fact.source, marks])
    head = ["Fact", "Family", "Unit", "Asked", "Source", ""]
    return f"# Facts\n\n{MADE}{len(FACTS)} facts.\n\n" + table(head, rows)


def checks_page() -> str:
    """Every check with its rule and the criteria it serves."""
    documents = {
        p.name: yaml.safe_load(p.read_text(encoding="utf-8"))
        for p in sorted((ROOT / "checks").glob("*.yaml"))
        if p.name != "waivers.yaml"
    }
    frameworks = {
        p.name: yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted((ROOT / "checks/criteria").glob("*.yaml"))
    }
    catalog = make_catalog(documents, frameworks)
    rows = [
        [
            f"`{c.id}`",
            f"{c.title.vi} / {c.title.en}",
            c.role,
            f"`{rule_words(c)}`",
            c.severity,
            ", ".join(c.serves),
            ", ".join(c.partly),
        ]
        for c in sorted(catalog.checks.values(), key=lambda c: c.id)
    ]
    head = ["Check", "Title", "Role", "Rule", "Severity", "Serves", "Needed for"]
    return f"# Checks\n\n{MADE}{len(rows)} checks.\n\n" + table(head, rows)


def routes_page() -> str:
    """Every route of the web and who may use it."""
    from controlplane.web.access import TABLE  # noqa: PLC0415  # after the other pages, which need no web

    rows = [[f"`{method} {path}`", ", ".join(sorted(roles))] for (method, path), roles in sorted(TABLE.items())]
    return "# Routes and roles\n\n" + MADE + table(["Route", "Roles"], rows)


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "emrctl.md": verbs_page,
    "facts.md": facts_page,
    "checks.md": checks_page,
    "routes.md": routes_page,
}


def main() -> int:
    """Write or check every page."""
    stale = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        text, path = make(), FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    sys.stdout.write(("out of date: " if stale else "all fresh ") + ", ".join(stale) + "\n")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
