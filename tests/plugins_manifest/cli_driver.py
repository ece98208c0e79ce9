"""xbench in a process of its own, with test servers in the places of the real sites.

python -m tests.plugins_manifest.cli_driver SETTINGS.json WORD... ; the token comes from the
environment as usual. The settings hold rules, addresses, CA and URLs, nothing that turns a check
off.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Any

from bench.cli.main import main
from plugins_manifest.http.client import Client
from plugins_manifest.http.hosts import AllowList, HostRule
from plugins_manifest.sources.base import Session
from plugins_manifest.sources.civitai import CivitaiSource
from plugins_manifest.store import Store
from plugins_manifest.supply.resolve import PluginFetcher


def open_supply(settings: dict[str, Any], **choices: Any) -> PluginFetcher:
    rules = tuple(
        HostRule(**{**rule, "networks": tuple(rule["networks"])}) for rule in settings["rules"]
    )
    client = Client(
        allow=AllowList(rules).with_hosts(choices["allow_hosts"]),
        resolve=lambda host, port: [settings["addresses"][host]],
        ca=Path(settings["ca"]),
        timeout_seconds=10.0,
    )
    session = Session(client, Store(), choices["progress"])
    return PluginFetcher(session, {"urn": CivitaiSource(settings["base_url"])})


if __name__ == "__main__":
    # a shell starts background jobs with SIGINT ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = json.loads(Path(sys.argv[1]).read_text())
    main(sys.argv[2:], obj=lambda **choices: open_supply(given, **choices))
