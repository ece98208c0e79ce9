from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from plugins_manifest.errors import UserError
from runners.base import PluginFile, RenderCase, Variant
from runners.families.family import Family
from runners.group import run_group
from runners.plugins.textual_inversion import load_textual_inversion
from runners.prompts import chunks_of
from tests.runners.conftest import METHODS, SETTINGS
from tests.runners.kinds import (
    TEXT_WIDTH,
    WORD,
    assert_untouched,
    drawn,
    parts_of,
    stage1_latents,
)


@pytest.fixture
def inversion(tmp_path: Path) -> PluginFile:
    path = tmp_path / "easy.safetensors"
    save_file({"emb_params": drawn(0, 2, TEXT_WIDTH)}, path)
    return PluginFile("easy-negative", "textual-inversion", path, token=WORD)


def written(file: PluginFile, state: dict[str, Tensor]) -> PluginFile:
    path = file.path.with_name("other.safetensors")
    save_file(state, path)
    return replace(file, path=path)


@pytest.mark.parametrize("token", ["red", "RED", "<|endoftext|>", "two words", "", "x" * 65])
def test_a_word_that_is_taken_or_cannot_be_one_is_refused(
    family: Family, inversion: PluginFile, token: str
) -> None:
    with pytest.raises(UserError, match=r"the token|needs its word"):
        load_textual_inversion(replace(inversion, token=token), family)


def test_the_trigger_serves_where_no_token_is_given(family: Family, inversion: PluginFile) -> None:
    plugin = load_textual_inversion(replace(inversion, token=None, trigger="zzother"), family)
    assert plugin.token == "zzother"


def test_two_inversions_of_one_word_are_refused_and_leave_nothing(
    family: Family, inversion: PluginFile, cases: list[RenderCase]
) -> None:
    before, twin = parts_of(family), replace(inversion, plugin_id="twin", token=WORD.upper())
    with pytest.raises(UserError, match="another textual inversion in this stack"):
        list(
            run_group(
                family, (inversion, twin), cases[:1], [Variant("base")], SETTINGS, methods=METHODS
            )
        )
    assert_untouched(before, family)


def test_two_words_in_one_prompt_both_act(
    family: Family, inversion: PluginFile, cases: list[RenderCase]
) -> None:
    other = written(replace(inversion, plugin_id="other", token="zzb"), {"x": drawn(9, TEXT_WIDTH)})
    case = replace(cases[0], base_prompt=f"{WORD} zzb")
    both = stage1_latents(family, (inversion, other), [case])
    for alone in (inversion, other):
        assert not torch.equal(both, stage1_latents(family, alone, [case]))


def test_the_word_counts_alone_in_any_case_and_not_inside_other_words(
    family: Family, inversion: PluginFile
) -> None:
    plugin = load_textual_inversion(inversion, family)
    with plugin.attached(family, strength=1.0) as attachment:
        rewrite = attachment.rewrite_prompt
        vectors = rewrite(WORD)
        assert rewrite(f"a {WORD.upper()}, red") == f"a {vectors}, red"
        for untouched in (f"{WORD}s", f"x{WORD}", "a red circle"):
            assert rewrite(untouched) == untouched
        ids = family.base.tokenizer(vectors, add_special_tokens=False).input_ids
        rows = family.base.text_encoder.get_input_embeddings().weight[ids]
        assert torch.equal(rows, plugin.vectors)


def test_a_prompt_that_its_vectors_make_too_long_fails_and_says_so(
    family: Family, inversion: PluginFile, cases: list[RenderCase]
) -> None:
    long = written(inversion, {"emb_params": drawn(0, 17, TEXT_WIDTH)})
    case = replace(cases[0], base_prompt=f"a {WORD} circle")
    (result,) = run_group(family, long, [case], [Variant("base")], SETTINGS, methods=METHODS)
    assert result.error is not None
    assert "has 21 tokens" in result.error and "each vector of an embedding" in result.error


def test_strength_multiplies_the_vectors(family: Family, inversion: PluginFile) -> None:
    plugin = load_textual_inversion(inversion, family)
    with plugin.attached(family, strength=0.5):
        table = family.base.text_encoder.get_input_embeddings().weight
        assert torch.equal(table[-2:], 0.5 * plugin.vectors)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"clip_l": torch.ones(1, 64), "clip_g": torch.ones(1, 80)}, "for SDXL"),
        ({"emb_params": torch.ones(2, 96)}, "vectors of 96 .*are 64"),
        ({"emb_params": torch.ones(19, 64)}, r"\[19, 64\], not 1 to 18 vectors"),
        ({"a": torch.ones(64), "b": torch.ones(64)}, "the vectors of one word"),
        ({"emb_params": torch.full((1, 64), torch.inf)}, "NaN, infinite"),
    ],
)
def test_what_is_no_inversion_for_this_model_is_told(
    family: Family, inversion: PluginFile, state: dict[str, Tensor], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        load_textual_inversion(written(inversion, state), family)


def test_an_automatic1111_file_may_hold_its_token_table(
    family: Family, inversion: PluginFile
) -> None:
    state = {"string_to_param.*": drawn(0, 2, TEXT_WIDTH), "string_to_token.*": torch.tensor(265)}
    assert load_textual_inversion(written(inversion, state), family).audit.is_complete


def test_the_vectors_of_an_embedding_are_weighted_and_stay_together(
    family: Family, inversion: PluginFile
) -> None:
    plugin = load_textual_inversion(inversion, family)
    n, word = len(plugin.vectors), plugin.token
    with plugin.attached(family, strength=1.0) as attachment:
        tokenizer = family.base.tokenizer
        prompt = attachment.rewrite_prompt("red " * (19 - n) + f"({word}:1.2)")
        chunks = chunks_of(prompt, tokenizer)
    assert [len(chunk.ids) for chunk in chunks] == [19 - n, n]
    assert chunks[1].weights == [1.2] * n
