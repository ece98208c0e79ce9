"""License flags in the three shapes that the API has used, and in none."""

import pytest

from plugins_manifest.sources.licenses import License, civitai_license, parse_commercial_use


@pytest.mark.parametrize(
    ("value", "uses"),
    [
        ("Sell", ("Sell",)),
        ("None", ()),
        ("{Image,RentCivit}", ("Image", "RentCivit")),
        ('{"Image", Rent}', ("Image", "Rent")),
        ("{}", ()),
        (["Image", "Sell"], ("Image", "Sell")),
        ([], ()),
        (["None"], ()),
        (None, None),
        (7, None),
    ],
)
def test_commercial_use_is_read_from_every_shape(
    value: object, uses: tuple[str, ...] | None
) -> None:
    assert parse_commercial_use(value) == uses


def test_flags_that_are_no_booleans_are_unknown() -> None:
    flags = civitai_license({"allowNoCredit": True, "allowDerivatives": "yes"})
    assert flags == License(allow_no_credit=True)


def test_description_contains_every_known_fact() -> None:
    flags = civitai_license(
        {
            "allowNoCredit": False,
            "allowCommercialUse": "{Image}",
            "allowDerivatives": True,
            "allowDifferentLicense": False,
        }
    )
    assert flags.describe() == (
        "credit needed; derivatives allowed; same license; commercial use: Image"
    )
    assert License().describe() == "unknown"
    assert License(name="openrail").describe() == "openrail"
