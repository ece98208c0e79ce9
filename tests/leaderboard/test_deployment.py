"""Claims about the deployment of docs/deploy.md: PostgreSQL, replicas, a proxy with TLS."""

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, Page, Response, WebSocket, expect
from sqlalchemy import make_url, select

from leaderboard.study.config import COOKIE
from leaderboard.study.database import reading
from leaderboard.study.schema import RATE_WINDOWS, VOTES
from leaderboard.study.tokens import SECRET_VARIABLE, Blinding
from leaderboard.study.votes import VotesDatabase
from tests.leaderboard.browsing import WAIT_MS, wait_for_key
from tests.leaderboard.conftest import emptied
from tests.leaderboard.proxy import running_proxy
from tests.leaderboard.study_run import write_study_run
from tests.leaderboard.web_server import WebServer, running_server

pytestmark = pytest.mark.system

SECRET = "the-secret-of-the-study-4f1c0b5e"
S3_SECRET = "the-secret-of-the-bucket-9b02"
WRONG = "a-password-that-is-wrong"
VISITOR = "203.0.113.7"
ENVIRONMENT = {
    SECRET_VARIABLE: SECRET,
    "AWS_ACCESS_KEY_ID": "key-of-the-bucket",
    "AWS_SECRET_ACCESS_KEY": S3_SECRET,
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
}


@dataclass
class Heard:
    """All data that one browser received and sent, without the cookie's header."""

    page: Page
    parts: list[bytes] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)

    @classmethod
    def of(cls, browser: Browser) -> Self:
        """Record the traffic of a new page."""
        page = browser.new_context(ignore_https_errors=True).new_page()
        heard = cls(page)
        page.on("response", heard._keep)
        page.on("websocket", heard._listen)
        page.on("console", lambda message: heard._add(message.text))
        return heard

    def all(self) -> bytes:
        """Return addresses, headers, bodies, messages, console and the open page."""
        while self.answers:
            answer = self.answers.pop()
            kept = {k: v for k, v in answer.all_headers().items() if k != "set-cookie"}
            self._add(f"{answer.url} {kept}")
            # a disconnected page polls /_stcore/health, and a reload discards the responses
            is_own = "/static/" not in answer.url and "/_stcore/" not in answer.url
            if is_own and answer.status == 200:
                self.parts.append(answer.body())
        self._add(self.page.url + self.page.content())
        return b"\n".join(self.parts)

    def _keep(self, answer: Response) -> None:
        self.answers.append(answer)

    def _listen(self, socket: WebSocket) -> None:
        self._add(socket.url)
        socket.on("framereceived", self._add)
        socket.on("framesent", self._add)

    def _add(self, part: str | bytes) -> None:
        self.parts.append(part if isinstance(part, bytes) else part.encode())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_study_run(tmp_path / "runs" / "one")
    return tmp_path / "runs"


@pytest.fixture
def votes(postgres) -> str:
    return emptied(postgres)


@pytest.fixture
def replicas(results, votes, tmp_path) -> Iterator[list[WebServer]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_server(results, votes, tmp_path / f"log-{n}", environment=ENVIRONMENT)
            )
            for n in range(2)
        ]


def answer_with(page: Page, key: str, *, then: int) -> None:
    page.keyboard.press(key)
    expect_count(page, then)


def expect_count(page: Page, n: int) -> None:
    expect(page.get_by_text(f"{n} of 24 answers counted")).to_be_visible(timeout=WAIT_MS)
    app = page.get_by_test_id("stApp")
    expect(app).to_have_attribute("data-test-connection-state", "CONNECTED", timeout=WAIT_MS)
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=WAIT_MS)
    wait_for_key(page, re.compile(r"^Right( Shortcut.*)?$"))


def serving(replicas: list[WebServer]) -> WebServer:
    """Return the replica that has the page's connection."""
    return max(replicas, key=lambda r: len(psutil.Process(r.pid).net_connections(kind="tcp")))


def password_of(votes: str) -> str:
    password = make_url(votes).password
    assert password
    return password


def stored(votes: str, table: Any) -> list[Any]:
    with VotesDatabase.open(votes) as database, reading(database.engine) as connection:
        return list(connection.execute(select(table)))


@pytest.mark.slow
def test_a_rater_goes_on_when_a_replica_dies_and_no_secret_leaks(
    replicas, browser, votes, tmp_path
):
    addresses = [urlsplit(replica.url).netloc for replica in replicas]
    with running_proxy(tmp_path, addresses, visitor=VISITOR) as url:
        heard = Heard.of(browser)
        page = heard.page
        first = page.goto(url + "/study")
        assert first is not None and first.header_value("strict-transport-security")
        expect_count(page, 0)
        answer_with(page, "ArrowLeft", then=1)
        heard.all()
        serving(replicas).stop(signal.SIGKILL)
        page.reload()
        expect_count(page, 1)
        answer_with(page, "ArrowRight", then=2)
        (cookie,) = [c for c in page.context.cookies() if c.get("name") == COOKIE]
        received = heard.all()

    token = cookie.get("value", "")
    assert cookie.get("secure") and cookie.get("httpOnly") and token
    rater_id = Blinding(SECRET.encode()).rater_of(token)
    assert [row.rater_id for row in stored(votes, VOTES)] == [rater_id] * 2
    counted = {row.subject for row in stored(votes, RATE_WINDOWS)}
    assert f"address:{Blinding(SECRET.encode()).address_code(VISITOR)}" in counted
    logs = b"".join(log.read_bytes() for log in tmp_path.glob("log-*"))
    assert b"answers counted" in received
    for secret in (SECRET, S3_SECRET, password_of(votes), token):
        assert secret.encode() not in received + logs


def test_errors_of_stores_show_visitors_no_details_and_the_log_no_secret(browser, votes, tmp_path):
    place = make_url(votes).set(password=WRONG).render_as_string(hide_password=False)
    log = tmp_path / "log"
    with running_server("s3://bucket/runs", place, log, environment=ENVIRONMENT) as server:
        heard = Heard.of(browser)
        heard.page.goto(server.url)
        trouble = heard.page.get_by_text("bucket/runs cannot be reached")
        expect(trouble).to_be_visible(timeout=WAIT_MS)
        received = heard.all()
    assert b"postgresql" not in received
    assert b"password authentication failed" in log.read_bytes()
    for secret in (SECRET, S3_SECRET, WRONG, password_of(votes)):
        assert secret.encode() not in received + log.read_bytes()
