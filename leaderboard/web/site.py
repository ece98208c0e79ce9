"""Serve the files of `xbench site` at fixed addresses: badges, data, feed and pages of runs.

`/runs/RUN/PLUGIN/badge.svg` and so on; each is made of the current tables when it is requested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from bench.errors import UserError
from bench.site import Addresses, Parts, SiteContent, SitePlugin, SiteRun
from bench.site.examples import Example, Shot
from bench.site.views import Picture
from leaderboard.data import Run, current_runs
from leaderboard.figures.site_runs import open_site_run, read_typical
from leaderboard.pictures import Picture as Answer
from leaderboard.pictures import PictureQueue
from leaderboard.ui import site_address
from leaderboard.ui.page import default_run
from leaderboard.web.pictures import SMALL_PX, What, picture_path

_TYPES = {
    "css": "text/css; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "xml": "application/xml",
    "yaml": "application/yaml",
}
_SHARED = frozenset({"svg", "jpg"})  # shown by pages of other sites
_INDEX = "index.html"
_MAX_RUNS = 50  # of the files of all runs: the newest


@dataclass(frozen=True)
class PageAddresses(Addresses):
    """Addresses for the pages of this server: plugins open in the page of plugins.

    What that page shows at first is left out of its address: Streamlit would remove it, as a new
    entry of the browser's history, and the way back would lead to the same page.
    """

    default_run: str | None = None

    def link(self, name: str, *, page: str) -> str:
        """Return the absolute address of a file."""
        return site_address(quote(name))

    def plugin_page(self, run: SiteRun, plugin: SitePlugin, *, page: str) -> str:
        """Return the address of the page of a plugin."""
        query = {} if run.key == self.default_run else {"run": run.key}
        if plugin is not run.plugins[0]:
            query["plugin"] = plugin.name
        return site_address("plugin", **query)

    def home(self, *, page: str) -> str:
        """Return the address of the first page."""
        return site_address("")

    def shared(self, name: str) -> str | None:
        """Return the address of a page that can be previewed elsewhere."""
        return site_address(quote(name.removesuffix(_INDEX)))


class RoutePictures:
    """Links to the pictures that this server sends."""

    def __init__(self, runs: Mapping[str, Run], address: Callable[..., str] = site_address) -> None:
        """`address` makes an absolute address of a path, with the query given by name."""
        self._runs, self._address = runs, address

    def picture(self, shot: Shot, *, page: str) -> Picture | None:
        """Return an image's links."""
        return self._picture(shot, "small", "full", shot.version)

    def condition(self, example: Example, *, page: str) -> Picture | None:
        """Return the links of an example's condition; None without one."""
        if example.load_condition is None:
            return None
        return self._picture(example.shots[0], "condition", "condition", None)

    def _picture(self, shot: Shot, small: What, full: What, version: str | None) -> Picture | None:
        run = self._runs.get(shot.run)
        if run is None:
            return None
        links = []
        for what in (small, full):
            path, query = picture_path(run, what, shot.trial_id, version=version)
            links.append(self._address(path, v=query))
        return Picture(links[0], links[1], SMALL_PX, SMALL_PX)


def page_parts(runs: Mapping[str, Run]) -> Parts:
    """Return the parts of a page of this server."""
    return Parts(RoutePictures(runs), PageAddresses(default_run=default_run(runs)), "")


def site_routes(queue: PictureQueue) -> list[Route]:
    """Return the routes of the files of runs and of their plugins."""

    async def of_site(request: Request) -> ASGIApp:
        return _answered(queue, request, request.url.path.rsplit("/", 1)[-1])

    async def of_run(request: Request) -> ASGIApp:
        given = request.path_params
        return _answered(queue, request, given["name"], run=given["run"])

    async def of_plugin(request: Request) -> ASGIApp:
        given = request.path_params
        name = given.get("name") or _INDEX
        return _answered(queue, request, name, run=given["run"], plugin=given["plugin"])

    async def home(request: Request) -> ASGIApp:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/")

    names = [
        name for name in SiteContent(RoutePictures({}), Addresses()).site_names if name != _INDEX
    ]
    return [
        Route(f"/{_INDEX}", home, methods=["GET"]),
        *(Route(f"/{name}", of_site, methods=["GET"]) for name in sorted(names)),
        Route("/runs/{run}/{name}", of_run, methods=["GET"]),
        Route("/runs/{run}/{plugin}/", of_plugin, methods=["GET"]),
        Route("/runs/{run}/{plugin}/{name}", of_plugin, methods=["GET"]),
    ]


def _answered(
    queue: PictureQueue, request: Request, name: str, *, run: str = "", plugin: str = ""
) -> ASGIApp:
    ending = name.rsplit(".", 1)[-1]
    headers = {"Cache-Control": "private, max-age=60", "X-Content-Type-Options": "nosniff"}
    if ending in _SHARED:
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    root = str(request.base_url)
    make = _maker(root, name, run, plugin)
    return queue.answer(make, headers, is_large=False)


def _maker(root: str, name: str, run: str, plugin: str) -> Callable[[], Answer | None]:
    def address(path: str, **query: str) -> str:
        return f"{root}{path}?" + "&".join(f"{key}={value}" for key, value in query.items())

    def make() -> Answer | None:
        runs = current_runs()
        content = SiteContent(RoutePictures(runs, address), Addresses(root))
        try:
            made = _content(content, runs, name, run, plugin)
        except UserError:  # the run was removed or changed since it was listed
            return None
        media_type = _TYPES.get(name.rsplit(".", 1)[-1])
        if made is None or media_type is None:
            return None
        return Answer(made.encode() if isinstance(made, str) else made, media_type)

    return make


def _content(
    content: SiteContent, runs: Mapping[str, Run], name: str, run: str, plugin: str
) -> bytes | str | None:
    if not run:
        return content.of_site(
            [open_site_run(one) for one in list(runs.values())[:_MAX_RUNS]], name
        )
    if run not in runs:
        return None
    own = open_site_run(runs[run])
    if not plugin:
        read_typical(own.plugins[:1])
        return content.of_run(own, name)
    found = _by_folder(own).get(plugin)
    return None if found is None else content.of_plugin(own, found, name)


def _by_folder(run: SiteRun) -> Mapping[str, SitePlugin]:
    return {plugin.folder_name: plugin for plugin in run.plugins}
