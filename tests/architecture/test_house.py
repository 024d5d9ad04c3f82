"""Floors, doors, the clockless domain, sizes: the plan of the house as data, and one walk over its imports."""

from __future__ import annotations

import ast
import sys
import unicodedata
from pathlib import Path

import pytest
import yaml

from controlplane import texts

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ROOT / "controlplane"
MODULES = sorted(p for p in HOUSE.rglob("*.py") if "migrations" not in p.parts)

# A room imports from itself and from lower floors; rooms of one floor are strangers to each other.
FLOORS = {
    "domain": 0,
    "settings": 0,
    "texts": 0,
    "ooxml": 0,
    "rounds": 1,
    "collect": 1,
    "store": 1,
    "plays": 1,
    "backup": 1,
    "reports": 1,
    "doctor": 1,
    "sheets": 1,
    "intake": 1,
    "bootstrap": 2,
    "web": 3,
    "console": 3,
    "cli": 4,
    "__main__": 5,
}
# The tongue's own words may be asked for by the rooms above; the domain may be asked for by all.
GROUND = {"domain", "settings", "texts", "ooxml"}

# Each outside library comes in by one door.
DOORS = {
    "alembic": ("store/archive.py", "store/migrations/"),
    "ansible_runner": ("plays/",),
    "ansible": ("plays/",),
    "argon2": ("store/accounts.py",),
    "asyncio": ("collect/snmp.py", "web/events.py"),
    "cryptography": ("store/bundle.py", "store/verify.py", "collect/service_tls.py"),
    "docx": ("reports/",),
    "fastapi": ("web/",),
    "jinja2": ("web/pages/face.py", "reports/"),
    "openpyxl": ("sheets/",),
    "paramiko": ("collect/ssh.py",),
    "prometheus_client": ("web/metrics.py",),
    "pynetdicom": ("collect/service_dicom.py",),
    "pysnmp": ("collect/snmp.py",),
    "rich": ("console.py", "cli/"),
    "securesystemslib": ("store/bundle.py",),
    "socket": (
        "backup/restic.py",
        "collect/ssh.py",
        "collect/snmp.py",
        "collect/service_wire.py",
        "doctor.py",
        "cli/",
        "intake.py",
    ),
    "ssl": ("collect/service_wire.py", "collect/service_tls.py"),
    "sqlalchemy": ("store/",),
    "starlette": ("web/",),
    "subprocess": (
        "backup/causes.py",
        "backup/reach.py",
        "backup/scratch.py",
        "collect/local.py",
        "plays/",
        "store/verify.py",
    ),
    "typer": ("cli/",),
    "uvicorn": ("cli/",),
    "yaml": (
        "bootstrap/",
        "cli/checks.py",
        "collect/campaign.py",
        "collect/inventory.py",
        "collect/registers.py",
        "collect/yaml_file.py",
        "texts/__init__.py",
    ),
    "xml": ("collect/facts/linux_security_net.py", "ooxml.py", "reports/nd30.py"),
    "zipfile": ("ooxml.py", "sheets/", "reports/", "store/"),
    "zstandard": ("store/vault.py",),
}
CLOCKS = {"now", "today", "utcnow", "time", "monotonic", "perf_counter"}
LONGEST_FUNCTION = 40


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def rooms_of(path: Path) -> set[str]:
    parts = (name.split(".") for name in imports(path))
    return {p[1] for p in parts if p[0] == "controlplane" and len(p) > 1 and p[1] in FLOORS}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_a_module_imports_from_its_own_room_or_a_lower_floor(path):
    if path == HOUSE / "__init__.py":
        return
    mine = room(path)
    assert mine in FLOORS, f"{mine} stands on no floor: add it to FLOORS"
    for other in rooms_of(path) - {mine}:
        lower = FLOORS[other] < FLOORS[mine] and mine not in GROUND
        assert lower, f"{path.relative_to(HOUSE)} may not import {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_an_outside_library_comes_in_by_its_door(path):
    here = str(path.relative_to(HOUSE))
    for name in imports(path):
        library = name.split(".")[0]
        if library in DOORS:
            assert any(here.startswith(door) for door in DOORS[library]), f"{here} lets in {library}"


@pytest.mark.parametrize("path", sorted((HOUSE / "domain").glob("*.py")), ids=lambda p: p.name)
def test_the_domain_is_pure(path):
    outside = {n.split(".")[0] for n in imports(path)} - {"controlplane", "__future__"}
    assert outside <= set(sys.stdlib_module_names), "the domain uses the standard library only"
    assert not outside & {"os", "io", "pathlib", "time", "random", "secrets", "socket", "subprocess", "threading"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in CLOCKS, f"{path.name}:{node.lineno} reads a clock"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input"}, f"{path.name}:{node.lineno} does I/O"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_a_module_says_what_it_is_and_its_functions_are_short(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path.relative_to(HOUSE)} opens with no sentence"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_what_is_public_is_described(path):
    if "tests" in path.parts or room(path) == "migrations":
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.relative_to(HOUSE)}: {node.name} has no docstring"


def test_no_circle_of_imports():
    graph = {}
    for path in MODULES:
        name = ".".join(("controlplane", *path.relative_to(HOUSE).with_suffix("").parts)).removesuffix(".__init__")
        graph[name] = {n for n in imports(path) if n.startswith("controlplane")}
    known = set(graph)
    done, path_now = set(), []

    def walk(name: str) -> None:
        if name in done:
            return
        assert name not in path_now, f"circle: {' > '.join([*path_now, name])}"
        path_now.append(name)
        for other in sorted(graph[name] & known - {name}):
            walk(other)
        path_now.pop()
        done.add(name)

    for name in sorted(known):
        walk(name)


@pytest.mark.parametrize("lang", ["vi", "en"])
def test_no_text_is_hidden_by_another_of_the_same_name(lang):
    """YAML takes the later of two equal keys without a word, and with it everything that stood below the first."""

    def twice(node, path):
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value]
            assert len(names) == len(set(names)), f"{path}: {sorted(n for n in names if names.count(n) > 1)}"
            for key, value in node.value:
                twice(value, f"{path}.{key.value}")

    twice(yaml.compose((HOUSE / "texts" / f"{lang}.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader), lang)


def test_two_tongues_have_the_same_keys_and_the_same_holes():
    vi, en = texts.words("vi"), texts.words("en")
    assert set(vi) == set(en)
    for key in vi:
        assert texts.holes(vi[key]) == texts.holes(en[key]), key
        assert unicodedata.is_normalized("NFC", vi[key]), key


def test_yaml_keys_are_never_words_that_yaml_reads_as_booleans():
    def walk(value, where):
        if isinstance(value, dict):
            for key, inner in value.items():
                assert not isinstance(key, bool), f"{where}: key {key!r}"
                walk(inner, f"{where}.{key}")
        elif isinstance(value, list):
            for inner in value:
                walk(inner, where)

    for path in [*ROOT.glob("checks/**/*.yaml"), *ROOT.glob("inventory/*.yaml"), ROOT / "playbooks" / "plays.yaml"]:
        walk(yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
