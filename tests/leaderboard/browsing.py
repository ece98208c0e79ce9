"""Real browsers that look at the leaderboard, and what they complain of."""

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

CHROMIUM = Path("/usr/bin/chromium")
# nothing that a browser does on its own may leave this machine
CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
WAIT_MS = 15_000
_RUN_SECONDS = 3
# the script of a page ran to its end as often as this says
_COUNT_RUNS = """
window.nRuns = 0;
document.addEventListener("securitypolicyviolation", (event) =>
  console.error("policy:", event.effectiveDirective, event.blockedURI));
document.addEventListener("DOMContentLoaded", () => {
  let before = "";
  new MutationObserver(() => {
    const app = document.querySelector("[data-testid=stApp]");
    const state = app ? app.getAttribute("data-test-script-state") : "";
    if (before === "running" && state === "notRunning") window.nRuns += 1;
    before = state;
  }).observe(document.body, { subtree: true, childList: true,
    attributeFilter: ["data-test-script-state"] });
});
"""
_SETTLED = """
Array.from(document.images).every((image) => image.complete) &&
document.querySelector("[data-stale=true], [data-testid=stSkeleton]") === null &&
Array.from(document.querySelectorAll("[data-testid=stVegaLiteChart]")).every(
  (chart) => chart.querySelector("svg, canvas") !== null) &&
document.getAnimations().every((moving) => moving.playState !== "running" ||
  moving.effect.getComputedTiming().endTime === Infinity)
"""
# opened at /page, Streamlit first asks whether the site's root is /page/: it is not
_ASKS_FOR_ROOT = re.compile(r"/\w+/_stcore/(health|host-config)$")


@dataclass
class Visit:
    """One page in a browser, with every address it asked for and every error it told."""

    page: Page
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, url: str) -> None:
        """Go to an address and wait until its script has run."""
        self.page.goto(url)
        self._wait("window.nRuns > 0")
        self.wait_until_idle()

    def act(self, action: Callable[[], Any]) -> None:
        """Do something that makes the script run, and wait until it has.

        A run may be over before the page shows that it began: it is waited for a while only.
        """
        before = self.page.evaluate("window.nRuns")
        action()
        deadline = time.monotonic() + _RUN_SECONDS
        while time.monotonic() < deadline and self.page.evaluate("window.nRuns") <= before:
            self.page.wait_for_timeout(10)
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until no script runs, no picture is on its way and nothing fades in or out."""
        self.page.locator(
            "[data-testid=stApp][data-test-connection-state=CONNECTED]"
            "[data-test-script-state=notRunning]"
        ).wait_for(timeout=WAIT_MS)
        self._wait(_SETTLED)

    def _wait(self, claim: str) -> None:
        """Wait until a claim in JavaScript holds; the pages forbid the browser's own waiting."""
        deadline = time.monotonic() + WAIT_MS / 1000
        while not self.page.evaluate(claim):
            assert time.monotonic() < deadline, f"still not: {claim}"
            self.page.wait_for_timeout(10)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not _ASKS_FOR_ROOT.search(message.location["url"]):
            self.errors.append(f"{message.text} ({message.location['url']})")


def new_visit(
    browser: Browser,
    *,
    width_px: int = 1280,
    scheme: Literal["light", "dark"] = "light",
) -> Visit:
    """An empty page of a browser without history or cookies."""
    context = browser.new_context(
        viewport={"width": width_px, "height": 900}, color_scheme=scheme, has_touch=width_px < 500
    )
    context.add_init_script(_COUNT_RUNS)
    visit = Visit(context.new_page())
    visit.page.on("console", visit._hear)
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    return visit


def serious_findings(page: Page) -> list[str]:
    """What axe-core finds on a page that is serious or critical, one line a place."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['html'][:160]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def need_chromium() -> None:
    """Skip, saying why, where the browser is not installed."""
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed: run scripts/install-test-servers")
