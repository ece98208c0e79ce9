"""Kinds, stacks and remixes in a manifest: what is accepted, and every mistake with its line."""

import json
from pathlib import Path

import pytest

from plugins_manifest.errors import UserError
from plugins_manifest.schema.air import Air
from plugins_manifest.schema.load import load_manifest, parse_manifest, shipped_manifests
from plugins_manifest.schema.manifest import Manifest, json_schema
from plugins_manifest.schema.references import parse_reference
from plugins_manifest.schema.stacks import PluginSet, arrange_sets, plugin_sets
from plugins_manifest.sources.hub import HubReference

ROOT = Path(__file__).parents[3]
GOOD = """\
schema: 1
name: mine
family: pocket
plugins:
  - {id: line, kind: lora, source: a.safetensors, trigger: lineart}
  - {id: edges, kind: controlnet, source: net, condition: canny}
  - {id: gold, kind: lora, source: b.safetensors, side: upgraded, weight: 0.8, trigger: gold}
stacks:
  - id: both
    plugins:
      - {id: line, weight: 0.5}
      - {id: edges, scale: 0.7}
  - id: remix
    plugins:
      - {id: line}
      - {id: gold}
cases:
  - prompt: a red circle
methods:
  - name: base
"""
KNOWN = {"detector": ("canny", "mask")}


def parsed(text: str) -> Manifest:
    return parse_manifest(text, Path("mine.yaml"), known=KNOWN)


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        parsed(text)
    return caught.value.problems


def with_plugin(keys: str) -> str:
    return GOOD.replace("stacks:", f"  - {{id: more, source: x, {keys}}}\nstacks:", 1)


def test_a_run_measures_base_plugins_alone_and_every_stack() -> None:
    found = {plugin_set.id: plugin_set for plugin_set in plugin_sets(parsed(GOOD))}
    assert list(found) == ["line", "edges", "both", "remix"]
    assert [member.weight for member in found["both"].members] == [0.5, 0.7]
    assert [member.weight for member in found["remix"].members] == [1.0, 0.8]
    assert [plugin_set.kind for plugin_set in found.values()] == [
        "lora",
        "controlnet",
        "stack",
        "stack",
    ]
    assert [name for name, plugin_set in found.items() if plugin_set.is_remix] == ["remix"]


def test_a_plugin_that_is_not_alone_acts_in_its_stacks_only() -> None:
    text = GOOD.replace("trigger: lineart}", "trigger: lineart, alone: false}")
    assert [plugin_set.id for plugin_set in plugin_sets(parsed(text))] == ["edges", "both", "remix"]


def test_a_converted_file_takes_the_place_of_its_plugin() -> None:
    text = GOOD.replace("trigger: lineart}", "trigger: lineart, converted: gold}")
    found = arrange_sets(parsed(text), "converted")
    assert [member.plugin.id for member in found["line"].members] == ["gold"]
    assert "edges" not in found
    message = "\n".join(problems_of(text.replace("converted: gold", "converted: edges")))
    assert "converted is a plugin of the upgraded side" in message


def find_plugin_set(manifest: Manifest, name: str) -> PluginSet:
    return {plugin_set.id: plugin_set for plugin_set in plugin_sets(manifest)}[name]


def test_each_side_s_prompt_gets_its_own_triggers() -> None:
    remix = find_plugin_set(parsed(GOOD), "remix")
    assert remix.prompts_of("a cat", separator=", ") == ("a cat, lineart", "a cat, gold")


@pytest.mark.parametrize("kind", ["t2i_adapter", "t2i-adapter"])
def test_kinds_may_be_spelled_with_hyphens(kind: str) -> None:
    manifest = parsed(with_plugin(f"kind: {kind}, condition: mask"))
    assert manifest.plugin("more").kind == "t2i_adapter"


def test_a_token_is_what_the_prompt_needs() -> None:
    manifest = parsed(with_plugin("kind: textual_inversion, token: <cat>"))
    assert find_plugin_set(manifest, "more").words("base") == ["<cat>"]
    negative = with_plugin("kind: textual_inversion, token: bad, polarity: negative")
    plugin_set = find_plugin_set(parsed(negative), "more")
    assert plugin_set.words("base") == []
    assert plugin_set.negative_prompt("blurry", "base") == "blurry, bad"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("kind: lora, token: x", "a lora takes no token (textual_inversion do): remove 'token'"),
        ("kind: lora, reference: x.png", "a lora takes no reference"),
        ("kind: lora, condition: canny", "a lora takes no condition"),
        ("kind: lora, polarity: negative", "a lora takes no polarity"),
        ("kind: lora, side: upper", "side: use 'base' or 'upgraded' (it is 'upper')"),
        ("kind: lora, lora_semantics: paper", "'standard' or 'xadapter-official'"),
        ("kind: lora, seeds: []", "seeds: give at least 1 (it has 0)"),
        ("kind: controlnet, condition: cany", "unknown detector 'cany': use canny"),
        ("kind: controlnet, condition: canny, allow_partial: true", "takes no allow_partial"),
        ("kind: controlnet, condition: canny, lora_semantics: standard", "no lora_semantics"),
        ("kind: textual_inversion", "needs a token, the word that means it"),
        ("kind: textual_inversion, token: cat, trigger: dog", "lacks the token 'cat'"),
        ("kind: ip_adapter, side: upgraded", "cannot be on the upgraded side"),
        ("kind: lora, side: upgraded", "on the upgraded side, but in no stack: add it to one"),
        ("kind: lora, alone: false", "not to be used alone, but in no stack: add it to one"),
        ("kind: ip-adaptor", "unknown kind 'ip-adaptor': use ip_adapter"),
    ],
)
def test_a_wrong_key_of_a_plugin_is_reported_with_its_line(keys: str, message: str) -> None:
    problem = problems_of(with_plugin(keys))[0]
    assert problem.startswith("mine.yaml:8: ")
    assert message in problem


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("{id: edges, scale: 0.7}", "{id: egdes}", 12, "unknown plugin 'egdes': use edges"),
        ("{id: edges, scale: 0.7}", "{id: line}", 12, "in the stack twice: remove one"),
        (
            "{id: edges, scale: 0.7}",
            "{id: edges, weigth: 1}",
            12,
            "unknown key 'weigth': use id, scale, weight",
        ),
        (
            "{id: edges, scale: 0.7}",
            "{id: edges, scale: 1, weight: 1}",
            12,
            "are the same: give one",
        ),
        ("      - {id: edges, scale: 0.7}\n", "", 10, "give at least 2 (it has 1)"),
        ("id: remix", "id: both", 13, "the id is taken: choose another (it is 'both')"),
        ("id: remix", "id: line", 13, "the id is taken"),
        ("id: remix", "id: remix\n    plugin: x", 14, "unknown key 'plugin': use plugins"),
        ("      - {id: line}\n", "      - {id: gold}\n", 14, "add one of the base side"),
    ],
)
def test_each_mistake_in_a_stack_is_reported_with_its_line(
    old: str, new: str, line: int, message: str
) -> None:
    reported = [problem for problem in problems_of(GOOD.replace(old, new, 1)) if message in problem]
    assert [problem.split(": ")[0] for problem in reported] == [f"mine.yaml:{line}"]


def test_mistakes_in_plugins_and_between_stacks_are_reported_together() -> None:
    text = GOOD.replace("kind: controlnet", "kind: controlnett", 1).replace(
        "{id: gold}", "{id: gld}"
    )
    message = "\n".join(problems_of(text.replace("id: remix", "id: both", 1)))
    for part in ("unknown kind 'controlnett'", "unknown plugin 'gld'", "the id is taken"):
        assert part in message


def test_manifests_without_stacks_keep_their_fingerprint() -> None:
    """Runs and lock files made before there were stacks stay valid."""
    data = load_manifest("pocket-smoke").as_data()
    assert "stacks" not in data
    assert set(data["plugins"][0]) <= {
        *("id", "kind", "source", "weight", "condition", "license", "nsfw", "trigger"),
        *("native", "side"),
    }
    assert load_manifest("pocket-smoke").fingerprint().startswith("137a288d")


def test_a_manifest_with_stacks_reads_back_the_same(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(parsed(GOOD).as_data()))
    assert load_manifest(path).fingerprint() == parsed(GOOD).fingerprint()


def test_the_json_schema_in_docs_is_the_code_s() -> None:
    """Else run scripts/manifest-schema."""
    text = (ROOT / "docs" / "manifest.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == json_schema()


def test_the_docs_name_every_key() -> None:
    text = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    schema = json_schema()
    keys = {*schema["properties"]}
    for section in schema["$defs"].values():
        keys |= set(section.get("properties", ()))
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_the_examples_of_the_docs_are_manifests() -> None:
    text = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    examples = [part.split("```")[0] for part in text.split("```yaml\n")[1:]]
    assert len(examples) >= 2
    kinds = [plugin_set for example in examples for plugin_set in plugin_sets(parsed(example))]
    assert any(plugin_set.kind == "stack" and not plugin_set.is_remix for plugin_set in kinds)
    assert any(plugin_set.is_remix for plugin_set in kinds)


@pytest.mark.parametrize("name", ["paper", "community", "smoke"])
def test_shipped_sources_are_plausible(name: str) -> None:
    """AIRs of SD 1.5 with a version, of the plugin's kind; folders of the Hub; once each."""
    types = {"lora": "lora", "lycoris": "lycoris", "textual_inversion": "embedding"}
    manifest = load_manifest(name)
    assert len({spec.source for spec in manifest.plugins}) == len(manifest.plugins)
    for spec in manifest.plugins:
        place = parse_reference(spec.source)
        if isinstance(place, Air):
            assert (place.ecosystem, place.type) == ("sd1", types[spec.kind])
            assert place.version is not None
            assert place.id.isdigit()
            assert place.version.isdigit()
        else:
            assert isinstance(place, HubReference)
            assert place.is_folder
            assert spec.condition is not None
        assert not spec.nsfw
        assert spec.license is None  # unknown until it is locked


def test_the_community_manifest_has_at_least_forty_plugins() -> None:
    assert len(load_manifest("community").plugins) >= 40
    assert {"paper", "community", "smoke", "pocket-stacks"} <= set(shipped_manifests())


def test_the_paper_s_protocol_is_in_its_manifest() -> None:
    manifest = load_manifest("paper")
    for name in ("anime-outline", "moxin"):
        spec = manifest.plugin(name)
        assert (len(spec.prompts or ()), len(spec.seeds or ())) == (20, 50)
        assert spec.lora_semantics == "xadapter-official"
    assert {manifest.plugin(name).condition for name in ("canny", "depth")} == {"canny", "depth"}
    assert (manifest.settings.steps, manifest.settings.guidance_scale) == (50, 7.5)
    assert {method.t0 for method in manifest.methods} == {None, (0.8,)}
