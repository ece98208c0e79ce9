import pytest

from metrics.style import PocketStyle
from tests.metrics.pictures import (
    GivenReferences,
    NoReferences,
    image_of,
    random_scorer,
    random_sha256,
)


def style() -> PocketStyle:
    return PocketStyle(scorer=random_scorer, scorer_sha256=random_sha256)


def test_style_is_the_mean_cosine_to_the_bank():
    image, bank = image_of(0), [image_of(i, style="outline", method="base") for i in (1, 2, 3)]
    found = style().score([image], GivenReferences(bank=bank))[0].value
    rows = random_scorer().encode_images([i.load_picture() for i in (image, *bank)])
    assert found == pytest.approx(float((rows[1:] @ rows[0]).mean()), abs=1e-6)


def test_without_a_bank_style_is_null():
    found = style().score([image_of(0)], NoReferences())[0]
    assert found.value is None
    assert found.reason == "no base + plugin image of another prompt to compare with"


def test_only_style_plugins_are_asked():
    assert style().applies_to(image_of(0, kind="lora"))
    assert not style().applies_to(image_of(0, kind="controlnet"))
