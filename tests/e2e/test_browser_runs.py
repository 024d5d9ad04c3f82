"""Two people in two browsers carry a play through: preview, approval, apply seen live, dossier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane import texts
from tests.e2e.test_browser import ARGUMENTS, CHROMIUM, CONTRAST
from tests.integration.test_runs import Hospital, hospital
from tests.integration.test_web_runs import Served, closed_clients, served

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")

__all__ = ["closed_clients", "hospital", "served"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Chromium is not installed (Debian package chromium)"),
]


@pytest.fixture
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


def come_in(browser: Any, base: str, name: str, **options: Any) -> Any:
    page = browser.new_context(base_url=base, **options).new_page()
    page.goto("/login")
    page.fill("[name=name]", name)
    page.fill("[name=password]", f"a password of {name}")
    page.click("main button")
    return page


def said(key: str) -> str:
    return texts.say("vi", f"web.{key}")


def looked_at(page: Any) -> None:
    """What every page owes: contrast, no sideways scrolling, a name for every field."""
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    fields = "main input:not([type=hidden]), main select, main textarea"
    assert page.eval_on_selector_all(fields, "all => all.filter(f => !f.labels.length).length") == 0


def test_one_previews_another_approves_and_the_apply_is_seen_live(
    browser: Any, hospital: Hospital, served: Served
) -> None:
    base = f"http://127.0.0.1:{served.port}"
    phone = {"viewport": {"width": 390, "height": 844}}
    engineer = come_in(browser, base, "an", **phone)
    broken: list[str] = []
    engineer.on("console", lambda message: broken.append(message.text) if message.type == "error" else None)
    engineer.goto("/plays")
    looked_at(engineer)
    button = engineer.locator("#play-careful button")
    button.focus()
    assert engineer.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    engineer.keyboard.press("Enter")
    engineer.wait_for_url("**/runs/*")
    engineer.click(
        f"button:has-text('{said('runs.request')}')", timeout=60_000
    )  # the live page turned into the preview by itself
    preview = engineer.url
    assert "+ level = 3" in engineer.inner_text("main")
    looked_at(engineer)

    auditor = come_in(browser, base, "dung", java_script_enabled=False, **phone)
    auditor.goto("/plays")
    assert auditor.locator("main form").count() == 0
    auditor.goto(preview)
    assert auditor.locator("main form").count() == 0
    assert auditor.goto(f"{preview}/apply").status == 403

    director = come_in(browser, base, "chi", java_script_enabled=False, **phone)
    director.goto(preview)
    director.fill("[name=note]", "làm sau 18 giờ")
    director.click(f"button:has-text('{said('runs.approve')}')")
    assert "làm sau 18 giờ" in director.inner_text("main")
    assert director.locator(f"text={said('runs.apply')}").count() == 0

    engineer.goto(preview)
    engineer.click(f"a:has-text('{said('runs.apply')}')")
    looked_at(engineer)
    engineer.click(f"button:has-text('{said('apply.go')}')")
    engineer.wait_for_selector(".stage-now")
    loaded = engineer.evaluate("performance.timeOrigin")
    engineer.wait_for_selector(f".stage-now:has-text('{said('live.step_apply')}')", timeout=60_000)
    assert engineer.evaluate("performance.timeOrigin") == loaded, "it moved by events, not by a reload"
    looked_at(engineer)
    engineer.wait_for_selector(f"text={said('runs.signed')}", timeout=60_000)
    dossier = engineer.inner_text("main")
    for part in ("level = 3", "chi", said("runs.take_dossier"), said("state.changed")):
        assert part in dossier
    looked_at(engineer)
    assert hospital.written() == ["here-1", "here-2"]
    assert broken == []
