"""The documentation holds the house to its word."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("inventory/*.md"), *ROOT.glob("playbooks/*.md")]
)


def test_the_generated_reference_is_fresh():
    argv = [sys.executable, "-m", "tests.reference", "--check"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run script/docs: {done.stdout}{done.stderr[-500:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_inside_the_repository_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)|src=\"([^\"]+)\"", text)
    for target in (a or b for a, b in links):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_the_two_commands_and_what_does_not_work():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for word in ("script/server", "script/test", "--port", "--data-dir", "--no-round", "What does not work yet"):
        assert word in text


def test_every_file_that_architecture_names_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    names = re.findall(r"`((?:controlplane|tests|checks|inventory|playbooks|script)/[\w/.-]+)`", text)
    assert names
    for name in names:
        assert (ROOT / name).exists(), name
