"""Quality against the native plugin's images, on features and pictures whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.pocket_scorer import PocketEncoder
from metrics.sets.formulas import (
    cross_prompt_kernel_distance,
    gaussian_kernel,
    kernel_distance,
    polynomial_kernel,
)
from metrics.sets.run_distance import POCKET_KID_ORACLE, RunDistance
from tests.metrics.pictures import (
    GivenReferences,
    NoReferences,
    image_of,
    random_scorer,
    random_sha256,
)


def metric() -> RunDistance:
    return replace(POCKET_KID_ORACLE, encoder=PocketEncoder(random_scorer, random_sha256))


def rows(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, 8))


def by_definition(x, y, p, q, kernel) -> float:
    def mean(a, b, names_a, names_b):
        k = kernel(a, b)
        pairs = [(i, j) for i, n in enumerate(names_a) for j, m in enumerate(names_b) if n != m]
        return np.mean([k[i, j] for i, j in pairs])

    return mean(x, x, p, p) + mean(y, y, q, q) - 2 * mean(x, y, p, q)


@pytest.mark.parametrize("kernel", [polynomial_kernel, gaussian_kernel])
def test_only_pairs_of_different_prompts_count(kernel):
    x, y = rows(0, 9), rows(1, 7, 0.4)
    p, q = [f"p{i % 4}" for i in range(9)], [f"p{i % 5}" for i in range(7)]
    value, left_out = cross_prompt_kernel_distance(x, y, prompts_x=p, prompts_y=q, kernel=kernel)
    assert value == pytest.approx(by_definition(x, y, p, q, kernel))
    assert left_out.keys() == {f"p{i}" for i in range(5)}
    for name, left in left_out.items():
        keep_x = np.array([n != name for n in p])
        keep_y = np.array([n != name for n in q])
        rest = [n for n in p if n != name], [n for n in q if n != name]
        assert left == pytest.approx(by_definition(x[keep_x], y[keep_y], *rest, kernel))


def test_prompts_of_their_own_give_the_usual_kernel_distance():
    x, y = rows(0, 9), rows(1, 7)
    p, q = [f"x{i}" for i in range(9)], [f"y{i}" for i in range(7)]
    value, _ = cross_prompt_kernel_distance(x, y, prompts_x=p, prompts_y=q)
    assert value == pytest.approx(kernel_distance(x, y))


def test_blocks_do_not_change_the_value(monkeypatch: pytest.MonkeyPatch):
    x, y = rows(0, 30), rows(1, 20, 0.2)
    p, q = [f"p{i % 6}" for i in range(30)], [f"p{i % 6}" for i in range(20)]
    whole = cross_prompt_kernel_distance(x, y, prompts_x=p, prompts_y=q)
    monkeypatch.setattr("metrics.sets.formulas._BLOCK_VALUES", 50)
    parts = cross_prompt_kernel_distance(x, y, prompts_x=p, prompts_y=q)
    assert parts[0] == pytest.approx(whole[0])
    assert parts[1] == pytest.approx(whole[1])


def test_a_set_is_zero_from_itself_with_and_without_each_prompt():
    x, p = rows(0, 12), [f"p{i % 6}" for i in range(12)]
    value, left_out = cross_prompt_kernel_distance(x, x, prompts_x=p, prompts_y=p)
    assert [value, *left_out.values()] == pytest.approx([0] * 7, abs=1e-12)


def test_sharing_prompts_does_not_make_a_method_look_nearer():
    """Content common to a prompt's images must not lower the distance of equal distributions."""
    rng, found = np.random.default_rng(4), []
    names = [f"p{i}" for i in range(20)]
    for _ in range(60):
        content = rng.normal(0, 1, (20, 8))
        x, y = (content + rng.normal(0, 0.3, (20, 8)) for _ in range(2))
        apart, _ = cross_prompt_kernel_distance(x, y, prompts_x=names, prompts_y=names)
        found.append([apart, kernel_distance(x, y)])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(60)
    assert abs(mean[0]) < 4 * error[0]
    assert mean[1] < -10 * error[1]


def test_the_native_plugins_own_style_is_nearer_than_another():
    natives = [image_of(i, method="oracle", style="outline") for i in range(24)]
    references = GivenReferences(others=natives)
    near = metric().score([image_of(40 + i, style="outline") for i in range(24)], references)
    far = metric().score([image_of(40 + i, style="shaded") for i in range(24)], references)
    assert near.value is not None and far.value is not None
    assert near.value < far.value / 3
    assert metric().score(natives, references).value == pytest.approx(0, abs=1e-9)
    assert far.leave_one_out is not None and len(far.leave_one_out) == len(
        {i.prompt for i in natives} | {image_of(40 + i).prompt for i in range(24)}
    )


def test_a_run_without_native_images_says_so():
    found = metric().score([image_of(i) for i in range(4)], NoReferences())
    assert found.value is None
    assert found.reason is not None and "method oracle" in found.reason


def test_the_self_test_passes_and_the_recipe_names_its_reference():
    metric().selftest()
    assert "reference: the run's images of the plugin made natively" in metric().recipe()
    assert "different prompts" in metric().recipe()
