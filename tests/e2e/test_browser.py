"""A real browser against a real server: the one-time password, the overview, a phone, a keyboard, no script."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from controlplane import texts
from controlplane.bootstrap import init_store
from controlplane.settings import Settings
from tests.unit.test_intake import a_pdf

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
Browser, Page = sync_api.Browser, sync_api.Page

HOME = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PASSWORD = "mot cau dai de nho cho trinh duyet"
PAGES = (
    "/",
    "/criteria",
    "/criteria?framework=tt54-2017",
    "/?law=2025-08-15",
    "/difference",
    "/declare?criterion=nd331.approval",
    "/plan?item_1=ups&quantity_1=1&price_1=1000000&goal=tt13-2025/emr",
    "/law?internal=yes&online=yes&noticed=2026-11-26T07:30&serious=1",
    "/assets",
    "/assets/controlplane-01",
    "/network",
    "/rounds",
    "/runs",
    "/plays",
    "/drift",
    "/evidence",
    "/reports",
    "/accounts",
)
SERVER = """
import sys, uvicorn
from pathlib import Path
from controlplane.bootstrap import open_plane
from controlplane.settings import Settings
from controlplane.web.app import make_app
plane = open_plane(Settings(home=Path(sys.argv[1]), data_dir=Path(sys.argv[2])))
uvicorn.run(make_app(plane), host="127.0.0.1", port=int(sys.argv[3]), log_level="warning")
"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Chromium is not installed (Debian package chromium)"),
]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with a real local round, and the administrator's one-time password."""
    data = tmp_path_factory.mktemp("browser")
    plane = init_store(Settings(home=HOME, data_dir=data))
    plane.make_round()
    plane.make_round(["controlplane-01"])
    return data, plane.accounts.one_time_password("admin")


@pytest.fixture(scope="module")
def base(once: tuple[Path, str]) -> Iterator[str]:
    """A server of its own process on a free port."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    command = [sys.executable, "-c", SERVER, str(HOME), str(once[0]), str(port)]
    with subprocess.Popen(command, cwd=HOME, env=os.environ | {"PYTHONPATH": str(HOME)}) as server:
        try:
            _wait(f"http://127.0.0.1:{port}/healthz", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(150):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # our own loopback address
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def state(browser: Any, base: str, once: tuple[Path, str]) -> Any:
    """The cookies of an administrator who came with the one-time password and set another; no script ran."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(base)
    assert "/login" in page.url
    page.fill("[name=name]", "admin")
    page.fill("[name=password]", once[1])
    page.click("main button")
    assert page.url == f"{base}/password"
    page.goto(f"{base}/assets")
    assert page.url == f"{base}/password"
    page.fill("[name=new]", PASSWORD)
    page.fill("[name=again]", PASSWORD)
    page.click("main button")
    assert page.url == f"{base}/"
    assert "nhóm tiêu chí đã đạt mục tiêu" in page.inner_text("h1")
    found = context.storage_state()
    context.close()
    return found


def open_page(browser: Any, state: Any, width: int = 1280, height: int = 900, **options: Any) -> Any:
    return browser.new_context(storage_state=state, viewport={"width": width, "height": height}, **options).new_page()


def test_the_overview_says_the_main_thing_in_the_first_screen_of_a_phone(
    browser: Any, state: Any, base: str, tmp_path: Path
) -> None:
    page = open_page(browser, state, 360, 740, java_script_enabled=False)
    page.goto(base)
    page.screenshot(path=tmp_path / "phone.png")
    for selector in ("h1", ".next-days", ".levels tbody tr:nth-child(1) .l-now"):
        box = page.locator(selector).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 740, selector
    page.context.close()


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("lang", ["vi", "en"])
def test_no_page_scrolls_sideways(browser: Any, state: Any, base: str, tmp_path: Path, width: int, lang: str) -> None:
    page = open_page(browser, state, width, 740)
    broken: list[str] = []
    page.on("console", lambda message: broken.append(message.text) if message.type == "error" else None)
    # A request that the next page cut off (the icon's, as a rule) has not failed.
    page.on("requestfailed", lambda r: broken.append(r.url) if r.failure != "net::ERR_ABORTED" else None)
    for path in (*PAGES, *_found(page, base)):
        answer = page.goto(f"{base}{path}{'&' if '?' in path else '?'}lang={lang}")
        assert answer.status == 200, path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        page.screenshot(path=tmp_path / f"{re.sub(r'[^a-z0-9]+', '_', path.lower())[:60]}.png", full_page=True)
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} with everything open"
    assert broken == []  # no blocked style, no missing file
    page.context.close()


def _found(page: Any, base: str) -> list[str]:
    """A criterion, a round and raw bytes, as a person comes to them."""
    links = []
    for path, pattern in (
        ("/criteria", r"^/criteria/"),
        ("/rounds", r"^/rounds/"),
        ("/assets/controlplane-01", r"^/raw/"),
    ):
        page.goto(base + path)
        every = page.eval_on_selector_all("main a", "links => links.map(link => link.getAttribute('href'))")
        links.append(next(link for link in every if re.match(pattern, link)))
    return links


def test_the_tongue_is_switched_by_a_link_and_stays(browser: Any, state: Any, base: str) -> None:
    page = open_page(browser, state, java_script_enabled=False)
    page.goto(f"{base}/criteria?verdict=unknown")
    page.click("text=English")
    assert page.get_attribute("html", "lang") == "en"
    assert page.inner_text("h1") == texts.say("en", "web.criteria.title")
    assert "verdict=unknown" in page.url
    page.goto(f"{base}/assets")
    assert page.inner_text("h1") == texts.say("en", "web.assets.title")
    page.click("text=Tiếng Việt")
    assert page.inner_text("h1") == texts.say("vi", "web.assets.title")
    page.context.close()


def test_the_navigation_is_reached_by_keyboard_and_the_skip_link_comes_first(
    browser: Any, state: Any, base: str
) -> None:
    page = open_page(browser, state)
    page.goto(base)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getAttribute('href')"))
        shown = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert shown != "none", reached[-1]
    assert reached.index("/criteria") < reached.index("/assets") < reached.index("/evidence")
    page.locator("nav a[href='/assets']").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"{base}/assets")
    assert page.locator("nav [aria-current=page]").inner_text() == texts.say("vi", "web.nav.assets")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(browser: Any, state: Any, base: str, scheme: str) -> None:
    page = open_page(browser, state, color_scheme=scheme)
    new = [path for path in PAGES if "?" in path or path in ("/difference", "/plays", "/drift")]
    for path in ("/", "/criteria", "/evidence", "/assets/controlplane-01", *new):
        page.goto(base + path)
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        weak = page.evaluate(CONTRAST)
        assert weak == [], (path, weak[:5])
    page.context.close()


# The ratio of WCAG 2.2 between every text and the nearest ground behind it: 4.5, or 3 for large text.
CONTRAST = """
() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const lum = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const alpha = c => c.length > 3 ? c[3] : 1;
  const over = (top, under) => under.map((v, i) => top[i] * alpha(top) + v * (1 - alpha(top)));
  const ground = el => {
    const layers = [];
    for (let e = el; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, top) => top.length ? over(top, under) : under, [255, 255, 255]);
  };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const el = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !el.checkVisibility() || el.closest('svg, .skip, .unseen, option')) continue;
    const style = getComputedStyle(el), size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    const back = ground(el), front = over(parse(style.color), back);
    const [hi, lo] = [lum(front), lum(back)].sort((x, y) => y - x);
    const ratio = (hi + 0.05) / (lo + 0.05), least = size >= 24 || (size >= 18.66 && bold) ? 3 : 4.5;
    if (ratio < least) weak.push([text.slice(0, 40), el.className, +ratio.toFixed(2)]);
  }
  return weak;
}
"""


def test_a_criterion_is_followed_down_to_its_bytes_by_clicking(browser: Any, state: Any, base: str) -> None:
    page = open_page(browser, state)
    page.goto(f"{base}/assets/controlplane-01")
    link = page.locator("main a[href^='/raw/']").first
    digest = link.get_attribute("href").removeprefix("/raw/")
    link.click()
    assert digest in page.inner_text("main")
    with page.expect_download() as download:
        page.click("text=" + texts.say("vi", "web.raw.download"))
    import hashlib  # noqa: PLC0415  # only here

    assert hashlib.sha256(Path(download.value.path()).read_bytes()).hexdigest() == digest
    page.context.close()


def test_the_bundle_is_taken_home_through_the_form(browser: Any, state: Any, base: str) -> None:
    page = open_page(browser, state)
    page.goto(f"{base}/evidence")
    with page.expect_download() as download:
        page.click("text=" + texts.say("vi", "web.evidence.button"))
    assert download.value.suggested_filename.endswith(".zip")
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"
    page.context.close()


def test_a_document_is_declared_through_the_form_and_seen_on_its_criterion(
    browser: Any, state: Any, base: str, tmp_path: Path
) -> None:
    paper = tmp_path / "quyết định.pdf"
    paper.write_bytes(a_pdf())
    page = open_page(browser, state, 390, 844, java_script_enabled=False)
    page.goto(f"{base}/criteria/nd331.approval")
    page.click("text=" + texts.say("vi", "web.declare.button"))
    page.fill("[name=statement]", "Đã phê duyệt cấp độ")
    page.fill("[name=by]", "Phòng Hành chính - Tổng hợp")
    page.set_input_files("[name=document]", paper)
    page.fill("[name=issued_on]", "2026-09-01")
    page.click("main button")
    alert = page.inner_text("[role=alert]")
    assert alert == texts.say("vi", "declare.document_incomplete")
    assert page.input_value("[name=statement]") == "Đã phê duyệt cấp độ"
    page.fill("[name=signer]", "Giám đốc")
    page.set_input_files("[name=document]", paper)
    page.click("main button")
    page.click("text=" + texts.say("vi", "web.declare.see"))
    shown = page.inner_text("main")
    for part in ("Đã phê duyệt cấp độ", "quyết định.pdf", "Giám đốc", texts.say("vi", "verdict.met")):
        assert part in shown
    page.context.close()


def test_every_field_has_a_name_for_who_cannot_see(browser: Any, state: Any, base: str) -> None:
    page = open_page(browser, state)
    for path in PAGES:
        page.goto(base + path)
        nameless = page.eval_on_selector_all(
            "main input:not([type=hidden]), main select, main textarea",
            "fields => fields.filter(f => !f.labels.length && !f.ariaLabel).map(f => f.outerHTML)",
        )
        assert nameless == [], path
        levels = page.eval_on_selector_all("main h1, main h2, main h3, main h4", "all => all.map(h => +h.tagName[1])")
        steps = [b - a for a, b in pairwise(levels)]
        assert levels[0] == 1, path
        assert all(step <= 1 for step in steps), (path, levels)
    page.context.close()


def test_logging_out_closes_the_door(browser: Any, base: str, once: tuple[Path, str], state: Any) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{base}/login")
    page.fill("[name=name]", "admin")
    page.fill("[name=password]", once[1])
    page.click("main button")
    assert texts.say("vi", "account.wrong") in page.inner_text("main")  # the one-time password is spent
    page.fill("[name=password]", PASSWORD)
    page.click("main button")
    page.click("text=" + texts.say("vi", "web.nav.logout"))
    assert texts.say("vi", "web.login.done") in page.inner_text("main")
    page.goto(base)
    assert "/login" in page.url
    page.context.close()
