"""Drive real browsers on the leaderboard and collect their errors."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

CHROMIUM = Path("/usr/bin/chromium")
# block the browser's own requests to other hosts
CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
WAIT_MS = 60_000
_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error("policy:", event.effectiveDirective, event.blockedURI));
"""
# the effect of a message is drawn two frames later; listeners for keys are attached after that
_DRAWN = "() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"
# document.images does not include the shadow roots of components
_IMAGES = """
(() => {
  const within = (root) => Array.from(root.querySelectorAll("*")).flatMap((element) =>
    [...(element.tagName === "IMG" ? [element] : []),
     ...(element.shadowRoot ? within(element.shadowRoot) : [])]);
  return within(document);
})()
"""
_TOLD_OF_IMAGE = """i => ({ src: i.src, loaded: i.complete && i.naturalWidth > 0,
  isFragment: i.closest(".xb") !== null,
  alt: i.alt || (i.closest(".difference") ? "said by the other picture" :
    i.src.startsWith("data:image/svg") ? "said by the text beside it" : "") })"""
_SETTLED = f"""
{_IMAGES.strip()}.every((image) => (image.loading = "eager") && image.complete) &&
document.querySelector("[data-stale=true], [data-testid=stSkeleton]") === null &&
Array.from(document.querySelectorAll("[data-testid=stVegaLiteChart]")).every(
  (chart) => chart.querySelector("svg, canvas") !== null) &&
document.getAnimations().every((moving) => moving.playState !== "running" ||
  moving.effect.getComputedTiming().endTime === Infinity)
"""
# opened at /page, Streamlit first probes /page/ as the site's root
_ASKS_FOR_ROOT = re.compile(r"/\w+/_stcore/(health|host-config)$")


@dataclass
class Visit:
    """One page in a browser, with all requested addresses and reported errors."""

    page: Page
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    n_runs: int = 0  # completed runs of the page's script

    def open(self, url: str) -> None:
        """Go to an address and wait until its script has run."""
        self.act(lambda: self.page.goto(url))

    def act(self, action: Callable[[], Any]) -> None:
        """Perform an action that runs the script, and wait for the end of the run."""
        before = self.n_runs
        action()
        self._wait("a run of the script", lambda: self.n_runs > before)
        self.page.evaluate(_DRAWN)
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until no script runs, no picture loads and no animation plays."""
        self.page.locator(
            "[data-testid=stApp][data-test-connection-state=CONNECTED]"
            "[data-test-script-state=notRunning]"
        ).wait_for(timeout=WAIT_MS)
        self._wait("a settled page", lambda: self.page.evaluate(_SETTLED))

    def _wait(self, what: str, is_there: Callable[[], bool]) -> None:
        """Poll for a condition; the content policy blocks waiting inside of the page."""
        deadline = time.monotonic() + WAIT_MS / 1000
        while not is_there():
            assert time.monotonic() < deadline, f"{what} did not come in {WAIT_MS} ms"
            self.page.wait_for_timeout(10)

    def _count(self, frame: bytes | str) -> None:
        message = ForwardMsg()
        message.ParseFromString(frame if isinstance(frame, bytes) else frame.encode("latin-1"))
        if message.WhichOneof("type") == "script_finished":
            self.n_runs += message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not _ASKS_FOR_ROOT.search(message.location["url"]):
            self.errors.append(f"{message.text} ({message.location['url']})")


def wait_for_key(page: Page, name: re.Pattern[str]) -> None:
    """Wait until a button is there and its key is listened to."""
    page.get_by_role("button", name=name).wait_for(timeout=WAIT_MS)
    page.evaluate(_DRAWN)
    page.wait_for_timeout(50)  # React attaches listeners in a task after the frame


def new_visit(
    browser: Browser,
    *,
    width_px: int = 1280,
    scheme: Literal["light", "dark"] = "light",
) -> Visit:
    """Open an empty page in a new browser context."""
    context = browser.new_context(
        viewport={"width": width_px, "height": 900}, color_scheme=scheme, has_touch=width_px < 500
    )
    context.add_init_script(_TELL_VIOLATIONS)
    visit = Visit(context.new_page())
    visit.page.on("console", visit._hear)
    visit.page.on("websocket", lambda stream: stream.on("framereceived", visit._count))
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    return visit


def images_of(page: Page) -> list[dict[str, Any]]:
    """Return `src`, `alt`, `loaded` and `isFragment` of all pictures, also those in components."""
    return page.evaluate(f"{_IMAGES}.map({_TOLD_OF_IMAGE})")


def serious_findings(page: Page) -> list[str]:
    """Return the serious and critical findings of axe-core, one line per element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['html'][:160]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def need_chromium() -> None:
    """Skip with a reason if the browser is not installed."""
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed: run scripts/install-test-servers")
