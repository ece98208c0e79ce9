"""For other programs: an Atom feed (RFC 4287), robots.txt and sitemap.xml."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape, quoteattr

from bench.site.addresses import Addresses, run_file
from bench.site.runs import SiteRun
from plugins_manifest.outputs import xml_text

_NEVER = "1970-01-01T00:00:00+00:00"  # of runs that recorded no time
_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'


def updated(run: SiteRun) -> str:
    """Return when a run was finished or, if it was not, made."""
    return str(run.facts.get("finished") or run.facts.get("created") or _NEVER)


def feed(runs: Sequence[SiteRun], addresses: Addresses) -> str:
    """Return an Atom feed with one entry a finished run, the newest first."""
    finished = sorted((r for r in runs if r.is_finished), key=lambda r: (updated(r), r.key))
    newest = updated(finished[-1]) if finished else _NEVER
    home = addresses.public("index.html", page="feed.xml")
    own = addresses.public("feed.xml", page="feed.xml")
    return (
        f'{_HEAD}<feed xmlns="http://www.w3.org/2005/Atom">\n'
        f"<title>xbench: plugins after a model upgrade</title>\n<id>{_text(_id(finished))}</id>\n"
        f"<updated>{_text(newest)}</updated>\n<author><name>xbench</name></author>\n"
        f'<link href={_attribute(home)}/>\n<link rel="self" href={_attribute(own)}/>\n'
        + "".join(_entry(run, addresses) for run in reversed(finished))
        + "</feed>\n"
    )


def robots(addresses: Addresses) -> str:
    """Return robots.txt: everything may be read."""
    text = "User-agent: *\nAllow: /\n"
    return f"{text}Sitemap: {addresses.url}sitemap.xml\n" if addresses.url else text


def sitemap(pages: Iterable[str], addresses: Addresses) -> str:
    """Return sitemap.xml of pages by their names; it needs full addresses."""
    places = (addresses.public(page, page="sitemap.xml") for page in pages)
    lines = "".join(f"<url><loc>{_text(place)}</loc></url>\n" for place in places)
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'{_HEAD}<urlset xmlns="{space}">\n{lines}</urlset>\n'


def _entry(run: SiteRun, addresses: Addresses) -> str:
    place = f"{addresses.public('index.html', page='feed.xml')}#{run.key}"
    lines = "\n".join([run.sentence, *(f"{answer.sentence}." for answer in run.answers)])
    badge = addresses.public(run_file(run, "badge.svg"), page="feed.xml")
    return (
        f"<entry>\n<title>{_text(f'{run.title}: {run.count}')}</title>\n"
        f"<id>{_text(_run_id(run))}</id>\n<updated>{_text(updated(run))}</updated>\n"
        f'<link href={_attribute(place)}/>\n<link rel="enclosure" type="image/svg+xml" '
        f'href={_attribute(badge)}/>\n<content type="text">{_text(lines)}</content>\n</entry>\n'
    )


def _id(runs: Sequence[SiteRun]) -> str:
    return f"urn:xbench:site:{runs[0].key}" if runs else "urn:xbench:site"


def _run_id(run: SiteRun) -> str:
    return f"urn:xbench:run:{run.facts.get('run_id') or run.key}"


def _text(text: str) -> str:
    return escape(xml_text(text))


def _attribute(text: str) -> str:
    return quoteattr(xml_text(text))
