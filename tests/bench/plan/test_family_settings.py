"""Settings that a manifest leaves out are its family's."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.plan.job import with_family_settings
from bench.run import RunRequest, open_job
from plugins_manifest.errors import UserError
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.manifest import Manifest, Settings
from runners.families.traits import FamilyTraits
from tests.bench.conftest import SMALL

BARE = SMALL[: SMALL.index("settings:")]


def test_a_pocket_manifest_without_settings_has_those_of_pocket(manifest_file: Path) -> None:
    manifest_file.write_text(BARE)
    settings = open_job(RunRequest(str(manifest_file))).manifest.settings
    assert (settings.base_size, settings.upgraded_size) == ((64, 64), (128, 128))
    assert (settings.steps, settings.guidance_scale, settings.sampler) == (25, 3.0, "dpm++")


def test_stated_settings_and_other_families_are_as_before(manifest: Manifest) -> None:
    full = "settings: {base_size: [32, 32], upgraded_size: [64, 64], steps: 7, guidance_scale: 9}\n"
    stated = parse_manifest(BARE + full, manifest.path)
    assert with_family_settings(stated).fingerprint() == stated.fingerprint()
    assert with_family_settings(manifest).settings.steps == 4  # only guidance is left out
    assert with_family_settings(manifest).settings.guidance_scale == 3.0
    real = parse_manifest(BARE.replace("family: pocket", "family: sd15-sdxl"), manifest.path)
    assert with_family_settings(real).settings == Settings()


def test_wrong_defaults_of_a_family_are_one_message(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = FamilyTraits(default_settings={"base_size": [63, 64]})
    monkeypatch.setattr("bench.plan.job.family_traits", lambda name: broken)
    with pytest.raises(UserError, match="family 'pocket' has broken default_settings"):
        with_family_settings(parse_manifest(BARE, manifest.path))


def test_a_list_of_weights_is_told_where_sweeps_stand(manifest_file: Path) -> None:
    text = SMALL.replace("source: lora.bin,", "source: lora.bin, weight: [0.5, 1.0],")
    with pytest.raises(UserError, match=r"plugin_scale: \[0.5, 1.0\] in a method") as caught:
        parse_manifest(text, manifest_file)
    assert len(caught.value.problems) == 1
