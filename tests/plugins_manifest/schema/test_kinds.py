from __future__ import annotations

from pkgutil import resolve_name
from typing import get_args

from plugins_manifest.formats import controlnet, embeddings, ip_adapter, t2i_adapter
from plugins_manifest.formats.formulas import formulas
from plugins_manifest.schema.kinds import KINDS, find_kind
from plugins_manifest.schema.plugins import PluginSpec
from plugins_manifest.schema.words import PluginKindName


def test_a_manifest_may_name_exactly_the_known_kinds() -> None:
    assert tuple(KINDS) == get_args(PluginKindName)


def test_the_parser_s_kinds_are_those_of_the_manifest() -> None:
    networks = {module.KIND for module in (controlnet, embeddings, ip_adapter, t2i_adapter)}
    weights = {spec.kind for spec in formulas().values()}
    assert networks | weights == {kind.label for kind in KINDS.values()}
    assert weights == {kind.label for kind in KINDS.values() if kind.changes_weights}


def test_every_kind_has_a_loader_and_keys_of_the_manifest() -> None:
    for kind in KINDS.values():
        assert callable(resolve_name(kind.loader))
        assert set(kind.keys) <= PluginSpec.model_fields.keys()
        assert find_kind(kind.label) is find_kind(kind.name) is kind
