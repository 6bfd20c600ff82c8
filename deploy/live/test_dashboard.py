"""The dashboard in a real browser, over a running proxy: `make dashboard-test`, which keeps pictures."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.processes import ROOT, Proxy, Stub, poll
from tests.valkey import Valkey

PICTURES = ROOT / "build/dashboard-pictures"
JSON = {"Content-Type": "application/json"}
TOKEN = "a-token-of-operators"
PHONE = {"width": 390, "height": 844}
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
]
# The contrast of each text with what is behind it, by WCAG 2.2: [ratio, needed, text].
CONTRAST = """() => {
  const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    throw new Error("nothing behind");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(parse(style.color)), light(behind(node))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    found.push([(a + 0.05) / (b + 0.05), large ? 3 : 4.5, walker.currentNode.data.trim()]);
  }
  const holder = document.querySelector("#url");
  const both = [light(parse(getComputedStyle(holder, "::placeholder").color)), light(behind(holder))];
  const [a, b] = both.sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), 4.5, "the placeholder"]);
  return found;
}"""


class Load:
    """Requests one after another, until it is left."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._end.wait(0.004):
            number += 1
            self._proxy.get(f"/users/{1 + number * 7 % 40}")
            if number % 50 == 0:
                self._proxy.get("/users/99999")
                self._proxy.get("/health")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(name="stage", scope="module")
def _stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stub, Proxy]]:
    """A proxy under light load, with everything that the page can show."""
    routes = tmp_path_factory.mktemp("dashboard") / "routes.yaml"
    text = (ROOT / "proxy/routes.yaml").read_text("utf-8")
    routes.write_text(
        text.replace("holdback: 0%", "holdback: 5%").replace("sample: 0%", "sample: 20%"), "utf-8"
    )
    with (
        Valkey() as valkey,
        Stub.start(latency="4ms") as stub,
        Proxy.start(stub.url, valkey.url, WORKERS="2", ROUTES_FILE=str(routes)) as proxy,
        Load(proxy),
    ):
        yield stub, proxy


@contextmanager
def opened(browser: Browser, url: str, **more: Any) -> Iterator[Page]:
    """The page; it must not complain, nor ask anybody else."""
    said: list[str] = []
    context = browser.new_context(**more)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(url) else said.append(asked.url))
    page.set_default_timeout(10_000)
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
    assert [] == said


def number(page: Page, name: str) -> float:
    """A figure on the page."""
    return float((page.locator(f"#{name}").text_content() or "").replace(",", ""))


def filled(page: Page) -> None:
    """Returns when figures have come, and a chart has something to draw."""
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#saved")).to_have_text(re.compile(r"[1-9]"))


def test_figures_move_under_load(browser: Browser, stage: tuple[Stub, Proxy]) -> None:
    """What is saved grows while one looks; rate, requests and both latencies are there."""
    with opened(browser, stage[1].admin) as page:
        filled(page)
        before = number(page, "saved")
        poll(lambda: number(page, "saved") > before + 20, "figures that move")
        expect(page.locator("#rps")).to_have_text(re.compile("[1-9]"))
        expect(page.locator("#rps-line path").last).to_have_attribute("d", re.compile("L"))

        assert 50 < number(page, "rate") <= 100
        for latency in ("hit-ms", "up-ms", "hit-p99", "up-p99"):
            expect(page.locator(f"#{latency}")).to_have_text(re.compile(r"^[\d.]+ ms$"))
        expect(page.locator("#truth")).to_contain_text("nines")
        expect(page.locator("#health tr", has_text="replicas")).to_contain_text("2")


def test_it_says_what_needs_attention(browser: Browser) -> None:
    """Nobody has asked yet, the mode, upstream fails, Redis is away: in words, and gone when it is over."""
    with (
        Valkey() as valkey,
        Stub.start() as stub,
        Proxy.start(stub.url, valkey.url) as proxy,
        opened(browser, proxy.admin) as page,
    ):
        notices = page.locator("#notices")
        expect(notices).to_contain_text("No request has come yet.")
        expect(notices).to_be_visible()
        proxy.get("/users/1")
        expect(notices).to_be_hidden()
        expect(page.locator("#reasons")).to_contain_text("nothing is stored for this key")
        for mode, words in (("off", "Mode is off"), ("serve", "")):
            assert 200 == proxy.ask_admin("POST", "/mode", JSON, json.dumps({"mode": mode})).status
            expect(notices).to_contain_text(words)
        expect(notices).to_be_hidden()
        stub.control(error_rate=1)
        proxy.get("/users/2")
        expect(notices).to_contain_text(re.compile("1 of [12] requests to it in the last ten seconds"))
        stub.control(error_rate=0)
        valkey.kill()

        def asked() -> bool:
            proxy.get("/users/3")
            return "Redis is away" in notices.inner_text()

        poll(asked, "the notice")
        expect(page.locator("#backend")).to_have_text("memory degraded")
        page.screenshot(path=PICTURES / "redis-away.png", full_page=True)
        assert [] == [one for one in page.evaluate(CONTRAST) if one[0] < one[1]]


def test_it_says_what_is_wrong_with_upstream(browser: Browser, tmp_path: Path) -> None:
    """A write past the proxy that a check found, and requests that wait for a connection."""
    routes = tmp_path / "routes.yaml"
    text = (ROOT / "proxy/routes.yaml").read_text("utf-8").replace("sample: 0%", "sample: 100%")
    text = text.replace("connect_timeout: 1s", "connect_timeout: 30s")
    routes.write_text(text.replace("max_connections: 100", "max_connections: 1"), "utf-8")
    with (
        Stub.start() as stub,
        Proxy.start(stub.url, ROUTES_FILE=str(routes)) as proxy,
        opened(browser, proxy.admin) as page,
        ThreadPoolExecutor(2) as pool,
    ):
        notices = page.locator("#notices")
        proxy.get("/users/1")
        assert 200 == stub.ask("PUT", "/users/1", JSON, json.dumps({"display_name": "Past"})).status
        assert "HIT" == proxy.get("/users/1").x_cache
        expect(notices).to_contain_text("A stale answer was served on GET /users/{id:int}")
        expect(page.locator("#evictions")).to_contain_text("truth")
        stub.control(hold="user_by_id")
        asked = [pool.submit(proxy.get, f"/users/{one}") for one in (2, 3)]
        expect(notices).to_contain_text("1 have no connection; all 1 are in use")
        page.screenshot(path=PICTURES / "upstream.png", full_page=True)
        stub.control(release="all")
        assert [200, 200] == [one.result().status for one in asked]
        expect(notices).not_to_contain_text("wait for upstream")


def test_evict_asks_and_works(browser: Browser, stage: tuple[Stub, Proxy]) -> None:
    """Nothing happens at the first press, nor after Keep; after Evict the user is gone from every tier."""
    _, proxy = stage
    asked: list[str] = []
    with opened(browser, proxy.admin) as page:
        filled(page)
        page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
        page.fill("#user", "45")
        proxy.get("/users/45")
        page.click("#evict button")
        expect(page.locator("#who")).to_have_text("45")
        page.screenshot(path=PICTURES / "evict.png")
        page.click("#sure button[value=no]")
        expect(page.locator("#sure")).to_be_hidden()
        page.click("#evict button")
        page.keyboard.press("Escape")
        expect(page.locator("#sure")).to_be_hidden()
        assert [] == asked

        page.click("#evict button")
        page.click("#sure button[value=yes]")
        expect(page.locator("#evict-said")).to_contain_text("Evicted: ")
        expect(page.locator("#evictions")).to_contain_text("user 45")
        assert "MISS" == proxy.get("/users/45").x_cache
        page.fill("#user", "")


def test_explain_works(browser: Browser, stage: tuple[Stub, Proxy]) -> None:
    """A path is explained; a mistake is said in words."""
    with opened(browser, stage[1].admin) as page:
        filled(page)
        page.fill("#url", "/users/7")
        page.click("#explain button")
        expect(page.locator("#explained")).to_contain_text("GET /users/{id:int}")
        page.fill("#url", "users/7")
        page.click("#explain button")
        assert page.locator("#url").evaluate("one => !one.validity.valid && one.validationMessage !== ''")


def test_a_token_is_asked_for(browser: Browser) -> None:
    """Where others can reach it, nothing is shown without the token, which is in no URL and no cookie."""
    with (
        Stub.start() as stub,
        Proxy.start(stub.url, ADMIN_TOKEN=TOKEN, ADMIN_LISTEN="0.0.0.0:0") as proxy,
    ):
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(10_000)
        urls: list[str] = []
        page.on("request", lambda request: urls.append(request.url))
        page.goto(proxy.admin.replace("0.0.0.0", "127.0.0.1"))
        expect(page.locator("#login")).to_be_visible()
        expect(page.locator("#board")).to_be_hidden()
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("not the token")
        page.keyboard.press("Enter")
        expect(page.locator("#login-said")).to_have_text("That is not the token.")
        page.screenshot(path=PICTURES / "login.png")
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#board")).to_be_visible()
        expect(page.locator("#live")).to_have_text("live")
        page.fill("#user", "4")
        page.click("#evict button")
        page.click("#sure button[value=yes]")
        expect(page.locator("#evict-said")).to_contain_text("Evicted: ")

        assert [] == [url for url in urls if TOKEN in url]
        assert [] == context.cookies()
        context.close()


def test_the_keyboard_reaches_everything(browser: Browser, stage: tuple[Stub, Proxy]) -> None:
    """Tab comes to each control, which shows it; a user is evicted without a mouse."""
    with opened(browser, stage[1].admin) as page:
        filled(page)
        controls = page.locator("main :is(input, select, button)")
        met = []
        for _ in range(controls.count()):
            page.keyboard.press("Tab")
            where = "document.activeElement.id || document.activeElement.textContent"
            met.append(page.evaluate(where))
            outline = "getComputedStyle(document.activeElement).outline"
            assert "solid 3px" in page.evaluate(outline)
        assert ["method", "url", "Explain", "user", "Evict"] == met

        page.locator("#user").focus()
        page.keyboard.type("44")
        page.keyboard.press("Enter")
        expect(page.locator("#sure")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.locator("#sure button[value=yes]")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#evict-said")).to_contain_text("Evicted: ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desk", "phone"])
def test_it_can_be_read(browser: Browser, stage: tuple[Stub, Proxy], scheme: Any, size: str) -> None:
    """Contrast as WCAG AA asks, nothing wider than the screen, nobody's data; a picture is kept."""
    viewport = PHONE if size == "phone" else {"width": 1280, "height": 900}
    with opened(browser, stage[1].admin, color_scheme=scheme, viewport=viewport) as page:
        filled(page)
        page.fill("#url", "/users/7")
        page.click("#explain button")
        expect(page.locator("#explained")).to_contain_text("GET")
        expect(page.locator("#hour path").last).to_have_attribute("d", re.compile("L"))
        expect(page.locator("#rps")).to_have_text(re.compile("[1-9]"))
        page.screenshot(path=PICTURES / f"{size}-{scheme}.png", full_page=True)

        poor = [one for one in page.evaluate(CONTRAST) if one[0] < one[1]]
        assert [] == poor
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert 0 == page.evaluate(wide)
        controls = page.locator("main :is(input, select, button)")
        heights = [box["height"] for one in controls.all() if (box := one.bounding_box())]
        assert (5, []) == (len(heights), [height for height in heights if height < 44])
        text = page.inner_text("body")
        users = [stage[0].get(f"/users/{one}").json() for one in range(1, 51)]
        secrets = {str(user[key]) for user in users for key in ("email", "username", "phone", "display_name")}
        assert set() == {one for one in secrets if one in text}
