"""One YAML file that a person wrote, read strictly: every complaint names file and line, in both tongues.

It refuses what YAML lets pass: keys that stand twice, keys that are not text, foreign tags, aliases that blow up. It
knows nothing of what is in the file: the forms live with the modules that read it.
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from controlplane.domain.model import Value, Words

MAX_BYTES = 5_000_000
MAX_NODES = 500_000  # counted with every alias written out, so that a few lines cannot stand for gigabytes
MAX_DEPTH = 40

_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge")
)
_STR, NULL, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "merge"))


class InventoryError(Exception):
    """Something a person wrote cannot be used: ``words`` says what in both tongues, ``file`` and ``line`` where."""

    def __init__(self, words: Words, file: str = "", line: int | None = None) -> None:
        super().__init__(words, file, line)
        self.words, self.file, self.line = words, file, line

    @property
    def place(self) -> str:
        """``file:line``, as far as known."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.place}: {self.words.en}" if self.place else self.words.en


def line_of(node: yaml.Node) -> int | None:
    """The line a node begins on, counted from 1."""
    return node.start_mark.line + 1 if node.start_mark is not None else None


def nearest(name: str, known: Iterable[str]) -> Words:
    """A sentence with the known names that look most like ``name``; nothing when none does."""
    close = ", ".join(difflib.get_close_matches(name, sorted(set(known)), n=3, cutoff=0.5))
    return Words(f" Gần giống: {close}.", f" Nearest: {close}.") if close else Words("", "")


class YamlFile:
    """One YAML file as nodes, so that every complaint names its line."""

    def __init__(self, path: Path, base: Path) -> None:
        self.path = path
        self.shown = str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
        text = self._text()
        try:
            self._guard_depth(text)
            self._loader = _Loader(text)
            root = self._loader.get_single_node()
        except yaml.YAMLError as broken:
            raise self._syntax(broken, text) from None
        self.root: yaml.Node | None = root
        if root is not None:
            self._walk(root, {})

    def error(self, at: yaml.Node | int | None, vi: str, en: str) -> InventoryError:
        return InventoryError(Words(vi, en), self.shown, line_of(at) if isinstance(at, yaml.Node) else at)

    def _text(self) -> str:
        try:
            if not self.path.exists():
                raise self.error(None, "Không tìm thấy tệp này.", "There is no such file.")
            if not self.path.is_file():
                raise self.error(None, "Đây không phải là tệp thường.", "This is not a regular file.")
            with self.path.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
        except OSError as denied:
            reason = denied.strerror or "I/O error"
            raise self.error(None, f"Không đọc được tệp ({reason}).", f"The file cannot be read ({reason}).") from None
        if len(raw) > MAX_BYTES:
            raise self.error(
                None,
                f"Tệp quá lớn: giới hạn là {MAX_BYTES // 1_000_000} MB.",
                f"The file is too large: the limit is {MAX_BYTES // 1_000_000} MB.",
            )
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as bad:
            line = raw[: bad.start].count(b"\n") + 1
            raise self.error(
                line, "Tệp không phải mã UTF-8 từ dòng này.", "The file is not UTF-8 from this line on."
            ) from None

    def _guard_depth(self, text: str) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise self.error(
                    event.start_mark.line + 1 if event.start_mark else None,
                    f"Lồng nhau quá {MAX_DEPTH} tầng.",
                    f"Nested more than {MAX_DEPTH} levels deep.",
                )

    def _syntax(self, broken: yaml.YAMLError, text: str) -> InventoryError:
        mark = getattr(broken, "problem_mark", None) or getattr(broken, "context_mark", None)
        line = mark.line + 1 if mark is not None else None
        problem = getattr(broken, "problem", None) or "unreadable"
        if isinstance(broken, yaml.reader.ReaderError):
            line = text.encode()[: broken.position].count(b"\n") + 1
            problem = "control character"
        return self.error(line, f"Sai cú pháp YAML ({problem}).", f"Not valid YAML ({problem}).")

    def _walk(self, node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
        """Vet tags and keys below ``node``; return its size and depth with every alias written out."""
        if id(node) in known:
            if known[id(node)] == (0, 0):
                raise self.error(node, "Bí danh YAML trỏ về chính nó.", "A YAML alias contains itself.")
            return known[id(node)]
        known[id(node)] = (0, 0)  # being walked
        if node.tag not in _TAGS:
            raise self.error(
                node,
                f"Không đọc thẻ YAML {node.tag}; mật khẩu và khóa để trong tệp bí mật, không để ở đây.",
                f"The YAML tag {node.tag} is not read; secrets stay in secret files, not here.",
            )
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            self._vet_keys(node)
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        measures = [self._walk(child, known) for child in children]
        size = 1 + sum(size for size, _ in measures)
        depth = 1 + max((depth for _, depth in measures), default=0)
        if size > MAX_NODES or depth > MAX_DEPTH:
            raise self.error(
                node, "Bí danh YAML nhân nội dung lên quá lớn.", "YAML aliases blow the content up too far."
            )
        known[id(node)] = (size, depth)
        return size, depth

    def _vet_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[str, int | None] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (_STR, _MERGE):
                told = key.value if isinstance(key, yaml.ScalarNode) else "..."
                raise self.error(
                    key,
                    f"Khóa “{told}” không phải là chữ: hãy đặt trong dấu ngoặc kép.",
                    f"The key “{told}” is not text: put it in quotes.",
                )
            name = unicodedata.normalize("NFC", key.value)
            if name in lines:
                raise self.error(
                    key,
                    f"Khóa “{name}” viết hai lần, lần đầu ở dòng {lines[name]}.",
                    f"The key “{name}” stands twice, first on line {lines[name]}.",
                )
            lines[name] = line_of(key)

    def value(self, node: yaml.Node) -> Value:
        """The node as plain data: None, bool, int, float, str (NFC), list, dict; dates become ISO text."""
        try:
            return _plain(self._loader.construct_object(node, deep=True))
        except yaml.YAMLError as broken:
            raise self._syntax(broken, "") from None
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError):  # as PyYAML reads !!bool x
            raise self.error(
                node, "Giá trị này không dùng được.", "This value cannot be used: not a real date or number."
            ) from None

    def pairs(self, node: yaml.Node, vi: str, en: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """(key, key node, value node) of a mapping, merge keys written out; nothing for null; ``vi, en`` name it."""
        if node.tag == NULL:
            return
        if not isinstance(node, yaml.MappingNode):
            raise self.error(
                node,
                f"{vi} phải là ánh xạ (tên: giá trị).",
                f"{en} must be a mapping (name: value).",
            )
        try:
            self._loader.flatten_mapping(node)
        except yaml.YAMLError as broken:
            raise self._syntax(broken, "") from None
        # A merged key stands first and is overridden by the node's own.
        for name, (key, child) in {key.value: (key, child) for key, child in node.value}.items():
            yield unicodedata.normalize("NFC", name), key, child

    # Typed reading of files in a form of our own (VLANs, campaign, registers).

    def take(
        self,
        node: yaml.Node | None,
        form: Mapping[str, Callable[[yaml.Node], Any]],
        optional: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A mapping with exactly the keys of ``form``, each read by its reader; ``optional`` keys have a default."""
        if node is None or node.tag == NULL:
            raise self.error(node or 1, "Tệp hoặc mục này trống.", "This file or entry is empty.")
        found: dict[str, Any] = {}
        for name, key, child in self.pairs(node, "Mục này", "This entry"):
            if name not in form:
                near = nearest(name, form)
                raise self.error(key, f"Không có khóa “{name}”.{near.vi}", f"Unknown key “{name}”.{near.en}")
            found[name] = form[name](child)
        for name in form:
            if name not in found and optional is not None and name in optional:
                found[name] = optional[name]
            if name not in found:
                raise self.error(node, f"Thiếu khóa “{name}”.", f"The key “{name}” is missing.")
        return found

    def text(self, node: yaml.Node) -> str:
        value = self.value(node)
        if not isinstance(value, str) or not value.strip():
            raise self.error(node, "Ở đây phải là một dòng chữ.", "A text is needed here.")
        return value

    def maybe_text(self, node: yaml.Node) -> str | None:
        return None if node.tag == NULL else self.text(node)

    def words(self, node: yaml.Node) -> Words:
        return Words(**self.take(node, {"vi": self.text, "en": self.text}))

    def day(self, node: yaml.Node) -> date:
        try:
            return date.fromisoformat(self.text(node))
        except ValueError:
            raise self.error(node, "Ngày phải viết dạng 2025-08-15.", "A day is written like 2025-08-15.") from None

    def maybe_day(self, node: yaml.Node) -> date | None:
        return None if node.tag == NULL else self.day(node)

    def flag(self, node: yaml.Node) -> bool:
        value = self.value(node)
        if not isinstance(value, bool):
            raise self.error(node, "Ở đây phải là true hoặc false.", "true or false is needed here.")
        return value

    def integer(self, node: yaml.Node) -> int:
        value = self.value(node)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(node, "Ở đây phải là số nguyên.", "A whole number is needed here.")
        return value

    def each(self, reader: Callable[[yaml.Node], Any]) -> Callable[[yaml.Node], tuple[Any, ...]]:
        """A reader of a list whose items are read by ``reader``."""

        def read(node: yaml.Node) -> tuple[Any, ...]:
            if not isinstance(node, yaml.SequenceNode):
                raise self.error(node, "Ở đây phải là danh sách.", "A list is needed here.")
            return tuple(reader(child) for child in node.value)

        return read

    def one_of(self, known: Sequence[str]) -> Callable[[yaml.Node], str]:
        """A reader of one of the ``known`` names."""

        def read(node: yaml.Node) -> str:
            value = self.text(node)
            if value not in known:
                near = nearest(value, known)
                raise self.error(node, f"Không có “{value}”.{near.vi}", f"Unknown “{value}”.{near.en}")
            return value

        return read


def _plain(value: Any) -> Value:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {unicodedata.normalize("NFC", key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    if isinstance(value, int) and value.bit_length() > 64:
        raise ValueError("too large a number to be written down again")
    return value
