"""Device options reach the renderer, and mark what changes pixels in the render context."""

from __future__ import annotations

import pytest

from bench.plan import Plan, Selection
from bench.render import FamilyRenderer, context_of
from bench.run import RunRequest, plan_run
from bench.store.image_cache import render_context
from runners.families import Family
from runners.options import DeviceOptions


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_run(RunRequest("pocket-smoke", Selection(limit=1)))


def test_the_context_is_as_before_unless_an_option_changes_pixels(plan: Plan) -> None:
    plain = render_context(dtype=plan.manifest.settings.dtype, device_kind="cuda")
    assert context_of(plan, "cuda", DeviceOptions()) == plain
    assert context_of(plan, "cuda", DeviceOptions(low_memory=True)) == plain
    assert context_of(plan, "cuda", DeviceOptions(compile=True)) == f"{plain}-compiled"


def test_the_family_is_compiled_once_when_it_is_loaded(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Family] = []

    def recorded(family: Family) -> Family:
        compiled.append(family)
        return family

    monkeypatch.setattr("runners.families.options.compile_family", recorded)
    options = DeviceOptions(compile=True, low_memory=True)
    renderer = FamilyRenderer(plan, "cpu", options=options)
    for _ in range(2):
        renderer.prepare()
    assert [family.device for family in compiled] == ["cpu"]
    FamilyRenderer(plan, "cpu").prepare()
    assert len(compiled) == 1
