"""Text for a model card, and evaluation results as the Hugging Face Hub reads them.

The Hub reads `.eval_results/*.yaml` of a model's repository; its documentation describes the keys
(huggingface.co/docs/hub/eval-results). The data set has to be a benchmark of the Hub.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from bench.analysis.words import MEANINGS, keeps, label_of, look, method_word, share, verdict_of
from bench.errors import UserError
from bench.site.addresses import Addresses, plugin_file
from bench.site.feed import updated
from bench.site.runs import SitePlugin, SiteRun
from plugins_manifest.outputs import markdown, one_line

_DATASET = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def checked_dataset(text: str | None) -> str | None:
    """Return a data set's id; raise `UserError` if it is not OWNER/NAME."""
    if text is not None and _DATASET.fullmatch(text) is None:
        raise UserError(f"--dataset {text!r} is not a data set of the Hub: OWNER/NAME")
    return text


def model_card(run: SiteRun, plugin: SitePlugin, addresses: Addresses) -> str:
    """Return Markdown for the card of a plugin: the sentence, a table, how it was measured."""
    answer = plugin.answer
    header = ("method", "verdict", "keeps", "images")
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in plugin.methods:
        word = verdict_of(row) or method_word(row, plugin.settings)
        cells = (label_of(row), word, share(row), look(row))
        lines.append("| " + " | ".join(markdown(cell) or "-" for cell in cells) + " |")
    badge = addresses.public(plugin_file(run, plugin, "badge.svg"), page="model-card.md")
    page = addresses.public(plugin_file(run, plugin, "index.html"), page="model-card.md")
    link = [f"[![{markdown(answer.word)}]({badge})]({page})", ""] if addresses.url else []
    return "\n".join(
        [
            "## After the model upgrade",
            "",
            *link,
            f"{markdown(answer.sentence)}.",
            "",
            *lines,
            "",
            f"{markdown(answer.word.capitalize())}: {MEANINGS[answer.word]}. Measured by xbench "
            f"on {run.n_prompts} prompts (manifest {markdown(run.title)}); brackets hold "
            "95 % intervals.",
            "",
        ]
    )


def eval_results(
    run: SiteRun, plugin: SitePlugin, addresses: Addresses, dataset: str
) -> str | None:
    """Return a file for `.eval_results`: the share kept in per cent; None if it is not known."""
    row = plugin.answer.row
    if row is None or row["retention"] is None:
        return None
    result: dict[str, Any] = {
        "dataset": {"id": dataset, "task_id": one_line(run.title)},
        "value": round(100 * row["retention"], 1),
        "date": updated(run)[:10],
    }
    if addresses.url:
        page = addresses.public(plugin_file(run, plugin, "index.html"), page="")
        result["source"] = {"url": page, "name": "xbench"}
    result["notes"] = one_line(f"{plugin.answer.word}, {keeps(row)} with {label_of(row)}")
    return yaml.safe_dump([result], sort_keys=False, allow_unicode=False)
