"""Method `delta` on random pocket models, with every kind of plugin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from plugins_manifest.errors import UserError
from plugins_manifest.schema import Settings
from runners.base import PluginFile, RenderCase, Stack, Variant, stack_of
from runners.families.family import Family
from runners.group import run_group
from runners.methods.delta import Delta, DeltaKnobs, DeltaSettings
from runners.passes import SharedWork, pass_key
from runners.plugins import Attachment, attach_all, load_stack
from runners.session import GroupSession
from tests.runners.conftest import METHODS, SETTINGS
from tests.runners.kinds import TEXT_WIDTH, WORD, drawn, save_ip_adapter, save_t2i

pytestmark = pytest.mark.system

DELTA = Variant("delta", t0=2 / 3, adapter_scale=1.0)
KINDS = ("lora", "controlnet", "t2i", "ip", "word", "stack")


@pytest.fixture(scope="module")
def plugins(
    tmp_path_factory: pytest.TempPathFactory, folders: Path, family: Family
) -> dict[str, PluginFile | Stack]:
    """Return a plugin of every kind, and a stack."""
    root = tmp_path_factory.mktemp("delta")
    save_t2i(root / "t2i")
    save_file({"emb_params": drawn(5, 2, TEXT_WIDTH)}, root / "word.safetensors")
    found: dict[str, PluginFile | Stack] = {
        "lora": PluginFile("random-lora", "lora", folders / "lora.safetensors"),
        "controlnet": PluginFile("net", "controlnet", folders / "controlnet", condition="canny"),
        "t2i": PluginFile("t2i", "t2i_adapter", root / "t2i", condition="canny"),
        "ip": PluginFile("ip", "ip_adapter", save_ip_adapter(root / "ip", family.base.unet)),
        "word": PluginFile("word", "textual_inversion", root / "word.safetensors", token=WORD),
    }
    parts = [one for name in ("lora", "controlnet", "ip") for one in stack_of(found[name])]
    return {**found, "stack": tuple(parts)}


def render(family: Family, plugin: Any, case: RenderCase, variant: Variant) -> np.ndarray:
    (result,) = run_group(family, plugin, [case], [variant], SETTINGS, methods=METHODS)
    assert result.error is None
    assert result.image is not None
    return result.image


@pytest.fixture
def case(cases: list[RenderCase]) -> RenderCase:
    reference = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    prompt = f"{cases[1].upgraded_prompt} {WORD}"
    return replace(cases[1], base_prompt=prompt, reference=reference)


@contextmanager
def session_of(family: Family, plugin: Any, case: RenderCase) -> Iterator[GroupSession]:
    """Yield a session as the group makes it, in which every pass may be read."""
    work = SharedWork([], family.device)
    work._declared = {pass_key(name, 1.0): 1.0 for name in Delta.shares}
    loaded = load_stack(stack_of(plugin), family)
    with attach_all(loaded, family, [1.0] * len(loaded)) as active, torch.inference_mode():
        yield GroupSession(
            family,
            [case],
            SETTINGS,
            attachment=active,
            remix=Attachment(),
            plugin_scale=1.0,
            work=work,
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_side_is_the_base_model_without_the_plugin(
    family: Family, plugins: dict[str, Any], case: RenderCase, kind: str
) -> None:
    bare = replace(case, base_prompt=case.upgraded_prompt)
    at = {"step": 0, "n_steps": 3}
    sample, timestep = drawn(6, 1, 4, 8, 8), torch.tensor(500)
    with session_of(family, None, bare) as session:
        expected = session.base.predict(sample, timestep, **at)
    with session_of(family, plugins[kind], case) as session:
        pair = session.base_pair(session.base)
        plugged = session.base.predict(sample, timestep, **at)
        assert (pair.joined is None) == (kind in {"lora", "ip", "stack"})
        with pair.taken_off():
            plain = pair.plain.predict(sample, timestep, **at)
        if pair.joined is not None:
            both = pair.joined.predict(torch.cat([sample] * 2), timestep, **at)
            torch.testing.assert_close(both, torch.cat([plain, plugged]), atol=1e-5, rtol=1e-5)
        again = session.base.predict(sample, timestep, **at)
    if kind in {"ip", "stack"}:  # another kernel for the same attention
        torch.testing.assert_close(plain, expected, atol=1e-5, rtol=1e-5)
    else:
        assert torch.equal(plain, expected)
    assert torch.equal(again, plugged)
    assert float((plugged - plain).abs().max()) > 1e-4


def test_strength_0_is_sdedit_bit_for_bit(
    family: Family, plugins: dict[str, Any], case: RenderCase
) -> None:
    alone = render(family, plugins["lora"], case, Variant("sdedit", t0=2 / 3))
    off = render(family, plugins["lora"], case, replace(DELTA, adapter_scale=0.0))
    on = render(family, plugins["lora"], case, DELTA)
    assert np.array_equal(off, alone)
    assert not np.array_equal(on, alone)


@pytest.mark.parametrize("words", [None, "latent"])
def test_without_a_plugin_there_is_no_difference(
    family: Family, case: RenderCase, words: str | None
) -> None:
    bare = replace(case, base_prompt=case.upgraded_prompt)
    alone = render(family, None, bare, Variant("sdedit", t0=2 / 3))
    found = render(family, None, bare, replace(DELTA, adapter=words))
    assert np.abs(found.astype(int) - alone).max() <= 1


@pytest.mark.parametrize(("kind", "words"), [("controlnet", None), ("stack", "latent guided")])
def test_calls_are_those_of_the_estimate(
    family: Family, plugins: dict[str, Any], case: RenderCase, kind: str, words: str | None
) -> None:
    variant, steps = replace(DELTA, adapter=words), SETTINGS.steps
    settings = Settings(
        base_size=(64, 64), upgraded_size=(128, 128), steps=steps, guidance_scale=3.0
    )
    counts: Counter[Any] = Counter()
    with ExitStack() as watching:
        for watch in _counters(family, counts):
            watching.enter_context(watch)
        render(family, plugins[kind], case, Variant("base"))
        before = counts.copy()
        render(family, plugins[kind], case, variant)
    counts.subtract(before)
    counts.subtract(before)  # stage 1 and its image
    cost = DeltaKnobs().cost(settings, variant)
    n_joint = cost.n_joint_steps
    assert n_joint == 2
    rows = 2  # of guidance
    assert +counts == +Counter(
        {
            ("base", 8): rows * n_joint * cost.base_calls,
            ("base", 16): rows * n_joint * cost.enlarged_calls,
            ("upgraded", 16): rows * 2 * cost.upgraded_calls,
            ("encode", 128): cost.n_encodes + n_joint * cost.step_encodes,
            ("decode", 16): cost.n_decodes + n_joint * cost.step_decodes,
            ("encode", 64): n_joint * cost.base_step_encodes,
            ("decode", 8): n_joint * cost.base_step_decodes,
        }
    )


def _counters(family: Family, counts: Counter[Any]) -> Iterator[Any]:
    """Count rows of calls by the model and the side of its input."""

    @contextmanager
    def counted(owner: Any, name: str, label: str) -> Iterator[None]:
        own: Callable[..., Any] = getattr(owner, name)

        def call(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            counts[label, sample.shape[-1]] += len(sample)
            return own(sample, *args, **kwargs)

        setattr(owner, name, call)
        try:
            yield
        finally:
            delattr(owner, name)

    for label, pipe in (("base", family.base), ("upgraded", family.upgraded)):
        yield counted(pipe.unet, "forward", label)
        yield counted(pipe.vae, "encode", "encode")
        yield counted(pipe.vae, "decode", "decode")


def test_settings_are_named_by_words_that_are_read_back() -> None:
    assert DeltaSettings().words is None
    for settings in (DeltaSettings("latent"), DeltaSettings("latent", "linear", "guided", 0.5)):
        variant = Variant("delta", 0.9, 1.0, settings.strength, settings.words)
        assert DeltaSettings.of(variant) == settings


def test_all_refused_variants_are_named_at_once(
    family: Family, case: RenderCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(family.base.vae.config, "latent_channels", 16)
    variants = [replace(DELTA, adapter=words) for words in ("latent", "sideways")]
    variants.append(replace(DELTA, t0=1.5))
    with pytest.raises(UserError) as caught:
        list(run_group(family, None, [case], variants, SETTINGS, methods=METHODS))
    text = "\n".join(caught.value.problems)
    for part in ("16 channels", "'sideways'", "t0 is 1.5"):
        assert part in text
