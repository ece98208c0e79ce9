"""A package adds sources by entry points alone: of today's kinds, local and network."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from bench.plan.plugin_files import locate_local
from plugins_manifest.errors import UserError
from plugins_manifest.installed import installed
from plugins_manifest.lock.lock import read_lock, write_lock
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.manifest import Manifest
from plugins_manifest.schema.references import is_network, parse_reference
from plugins_manifest.sources.base import installed_network_sources
from plugins_manifest.store import Store
from plugins_manifest.supply.locking import lock_manifest
from tests.plugins_manifest.servers import World, lora_bytes

CONTENT = lora_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MODULE = """
from dataclasses import dataclass
from typing import ClassVar

from plugins_manifest.errors import UserError
from plugins_manifest.http import HostRule
from plugins_manifest.lock import LockedFile, Origin
from plugins_manifest.sources import draft_entry, fetch_url

URL = "{url}"


@dataclass(frozen=True)
class Shared:
    scheme: ClassVar[str] = "shared"
    file: str


class SharedSource:
    name = "shared-site"
    hosts = (HostRule("shared.test"),)

    def parse(self, text):
        file = text.partition(":")[2]
        if not file.isalnum():
            raise UserError(f"{{text!r}} is not a shared file: write shared:NAME")
        return Shared(file)

    def pin(self, spec, reference, session):
        file = LockedFile(name="file.safetensors", url=f"{{URL}}/{{reference.file}}")
        return draft_entry(spec, Origin(site=self.name), [file])

    def fetch(self, entry, session):
        return [fetch_url(entry, session)]


class DiskSource:
    def locate(self, reference, *, folder):
        return folder / reference.partition(":")[2], "a" * 64


SHARED, DISK = SharedSource(), DiskSource()
"""
ENTRY_POINTS = """
[xbench.sources]
shared = more_sources:SHARED
disk = more_sources:DISK
broken = more_sources:NOTHING
"""


@pytest.fixture
def package(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "site-packages"
    facts = folder / "more_sources-1.0.dist-info"
    facts.mkdir(parents=True)
    (folder / "more_sources.py").write_text(MODULE.format(url=world.storage_url))
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: more-sources\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "more_sources", raising=False)
    installed.cache_clear()
    yield
    installed.cache_clear()


def manifest_of(folder: Path, source: str) -> Manifest:
    data = {
        "schema": 1,
        "name": "m",
        "family": "pocket",
        "plugins": [{"id": "p", "kind": "lora", "source": source}],
        "cases": {"source": "pocket", "seed": 1, "n": 1},
        "methods": [{"name": "base"}],
    }
    return parse_manifest(yaml.safe_dump(data), folder / "m.yaml")


@pytest.mark.usefixtures("package")
def test_a_new_network_source_is_validated_locked_and_fetched(
    world: World, store: Store, tmp_path: Path
) -> None:
    world.files["cat"] = CONTENT
    manifest = manifest_of(tmp_path, "shared:cat")
    assert is_network("shared:cat")
    with closing(world.supply(store)) as supply:
        outcome = lock_manifest(supply, manifest, old=None, locate=lambda spec: (tmp_path, ""))
    (entry,) = outcome.lock.plugins
    assert (entry.sha256, entry.origin.site) == (SHA256, "shared-site")
    assert store.find(SHA256) is not None
    path = tmp_path / "m.lock.yaml"
    write_lock(path, outcome.lock)
    assert read_lock(path) == outcome.lock


@pytest.mark.usefixtures("package")
def test_a_source_s_own_mistakes_are_mistakes_of_the_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m\.yaml:.*write shared:NAME"):
        manifest_of(tmp_path, "shared:a/b")


@pytest.mark.usefixtures("package")
def test_a_source_that_only_locates_is_of_this_machine(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, "disk:file.bin")
    assert parse_reference("disk:file.bin") is None
    assert locate_local(manifest.plugins[0], manifest) == (tmp_path / "file.bin", "a" * 64)


@pytest.mark.usefixtures("package")
def test_a_broken_source_is_reported_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"more_sources:NOTHING.*cannot be imported"):
        manifest_of(tmp_path, "broken:x")


def test_the_installed_network_sources_name_their_sites_and_hosts() -> None:
    sources = installed_network_sources()
    names = {scheme: source.name for scheme, source in sources.items()}
    assert names == {"urn": "civitai", "hf": "huggingface", "https": "https"}
    assert {rule.host for rule in sources["urn"].hosts} >= {"civitai.com", ".civitai.com"}
