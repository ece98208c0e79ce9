"""The closed forms against straight-line scripts of their equations, in numpy."""

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power

from runners.convert.low_rank import factors
from runners.convert.projection import directions, projected, similarity
from runners.convert.transport import Moments, aligning_map, carried, random_map, with_energy_of

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array, dtype=torch.float32)


def prolora(d: np.ndarray, w_s: np.ndarray, w_t: np.ndarray, energy: float) -> np.ndarray:
    """ProLoRA's equations, with both parts of both bases written out."""
    sides = []
    for w in (w_s, w_t):
        u, s, vt = np.linalg.svd(w, full_matrices=True)
        k = next(i for i in range(1, len(s) + 1) if (s[:i] ** 2).sum() / (s**2).sum() >= energy)
        sides.append((u[:, :k], u[:, k:], vt[:k].T, vt[k:].T))
    (us, us_perp, vs, vs_perp), (ut, ut_perp, vt_, vt_perp) = sides
    d_par = us @ us.T @ d @ vs @ vs.T
    d_perp = us_perp @ us_perp.T @ d @ vs_perp @ vs_perp.T
    return ut @ ut.T @ d_par @ vt_ @ vt_.T + ut_perp @ ut_perp.T @ d_perp @ vt_perp @ vt_perp.T


def theseus_map(a: np.ndarray, b: np.ndarray, p: float) -> np.ndarray:
    """T = U V^T of the whitened cross-covariance of centered rows."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    c = fractional_matrix_power(a.T @ a, -p) @ (a.T @ b) @ fractional_matrix_power(b.T @ b, -p)
    u, _, vt = np.linalg.svd(c, full_matrices=False)
    return u @ vt


def moments(a: np.ndarray, b: np.ndarray) -> Moments:
    found = Moments.empty(a.shape[1], b.shape[1])
    for rows in np.array_split(np.arange(len(a)), 3):
        found.add(tensor(a[rows]), tensor(b[rows]))
    return found


@pytest.mark.parametrize("shape", [(6, 6), (8, 5), (5, 8)])
def test_prolora_is_its_equations(shape: tuple[int, int]) -> None:
    d, w_s, w_t = (normal(*shape) for _ in range(3))
    own = directions(tensor(w_s), energy=0.7), directions(tensor(w_t), energy=0.7)
    found = projected(tensor(d), *own)
    np.testing.assert_allclose(found, prolora(d, w_s, w_t, 0.7), atol=1e-5)


def test_prolora_flattens_kernels_and_keeps_what_equal_models_share() -> None:
    d, w = normal(4, 3, 2, 2), normal(4, 3, 2, 2)
    own = directions(tensor(w), energy=0.7)
    found = projected(tensor(d), own, own)
    expected = prolora(d.reshape(4, 12), w.reshape(4, 12), w.reshape(4, 12), 0.7)
    np.testing.assert_allclose(found.flatten(1), expected, atol=1e-5)
    assert similarity(own, own) == pytest.approx(1.0, abs=1e-5)
    square = tensor(normal(5, 5))
    whole = directions(square, energy=1.0)  # no truncation: the projectors are the identity
    np.testing.assert_allclose(projected(square, whole, whole), square, atol=1e-5)


@pytest.mark.parametrize("widths", [(4, 6), (6, 4), (5, 5)])
@pytest.mark.parametrize("p", [0.4, 0.0])
def test_theseus_is_its_equations(widths: tuple[int, int], p: float) -> None:
    n_s, n_t = widths
    a_in, b_in = normal(60, n_s) + 2, normal(60, n_t) - 1
    a_out, b_out = normal(60, n_s + 1), normal(60, n_t + 2)
    b_in[:, :3] += a_in[:, :3]
    d = normal(n_s + 1, n_s)
    t_in, t_out = theseus_map(a_in, b_in, p), theseus_map(a_out, b_out, p)
    maps = [aligning_map(moments(*rows), whitening=p) for rows in ((a_in, b_in), (a_out, b_out))]
    found = carried(tensor(d), inputs=maps[0], outputs=maps[1])
    np.testing.assert_allclose(found, t_out.T @ d @ t_in, atol=1e-5)


def test_theseus_moves_kernels_tap_by_tap_and_loses_no_energy_upwards() -> None:
    t_in, t_out = (
        theseus_map(normal(40, 3), normal(40, 5), 0.4),
        random_map(4, 6, torch.Generator().manual_seed(1)),
    )
    d = normal(4, 3, 3, 3)
    found = carried(tensor(d), inputs=torch.tensor(t_in), outputs=t_out)
    for i, j in np.ndindex(3, 3):
        expected = t_out.numpy().T @ d[:, :, i, j] @ t_in
        np.testing.assert_allclose(found[:, :, i, j], expected, atol=1e-5)
    assert float(found.norm()) == pytest.approx(float(np.linalg.norm(d)), rel=1e-5)


def test_a_rotation_of_features_is_found_exactly() -> None:
    a, turn = normal(80, 5), random_map(5, 5, torch.Generator().manual_seed(2)).numpy()
    found = aligning_map(moments(a, a @ turn + 3), whitening=0.0)
    np.testing.assert_allclose(found, turn, atol=1e-5)


def test_random_maps_are_orthogonal_and_keep_the_energy() -> None:
    generator = torch.Generator().manual_seed(3)
    up, down = random_map(3, 5, generator), random_map(5, 3, generator)
    np.testing.assert_allclose(up @ up.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(down.T @ down, np.eye(3), atol=1e-12)
    source = tensor(normal(5, 5))
    moved = with_energy_of(carried(source, inputs=down, outputs=down), source)
    assert float(moved.norm()) == pytest.approx(float(source.norm()), rel=1e-5)
    assert not with_energy_of(torch.zeros(2, 2), source).any()


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 3)])
def test_factors_give_an_update_of_their_rank_back(shape: tuple[int, ...]) -> None:
    update = tensor(normal(6, 2) @ normal(2, int(np.prod(shape[1:])))).reshape(shape)
    down, up = factors(update, 4)
    assert down.shape == (2, *shape[1:]) and up.shape == (6, 2, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(up.flatten(1) @ down.flatten(1), update.flatten(1), atol=1e-5)
    assert len(factors(update, 1)[0]) == len(factors(torch.zeros(shape), 4)[0]) == 1
