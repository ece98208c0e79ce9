import numpy as np
import pytest
from cleanfid.resize import make_resizer

from metrics.resize import clean_resize, to_size
from pocket.scorer import preprocess


@pytest.mark.parametrize(("height", "width"), [(128, 128), (50, 90), (299, 64)])
@pytest.mark.parametrize("size_px", [(64, 64), (299, 299), (40, 56)])
def test_resize_equals_clean_fids(height, width, size_px):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    expected = make_resizer("PIL", False, "bicubic", size_px)(image)
    assert np.array_equal(clean_resize(image, size_px), expected)


def test_the_pocket_scorer_resizes_like_clean_fid():
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    expected = clean_resize(image, (128, 128)) / 127.5 - 1
    seen = preprocess([image])[0].permute(1, 2, 0).numpy()
    assert np.allclose(seen, expected, atol=1e-6)


def test_a_picture_of_the_right_size_is_untouched():
    image = np.random.default_rng(2).integers(0, 256, (32, 48, 3), np.uint8)
    assert to_size(image, (48, 32)) is image


def test_shrinking_averages_what_it_drops():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(to_size(stripes, (16, 16)).astype(int) - 127).max() <= 12
