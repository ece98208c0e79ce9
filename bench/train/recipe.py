"""Read recipes: every mistake at once, each with its line, or the --set that made it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bench.errors import UserError, unknown_name
from bench.registry import installed, known_names
from bench.train.mappers import merged_options, options_of
from bench.train.schema import DATA_SOURCES, Folders, MapperSpec, Recipe
from plugins_manifest.documents import Place, parse_yaml, parse_yaml_lines, read_content
from plugins_manifest.schema import KnownNames
from plugins_manifest.schema.messages import brief, dotted, explain

SHIPPED = Path(__file__).with_name("recipes")
_WHAT = "the recipe"
# of unions: pydantic puts the chosen one's tag into the place of a problem
_TAGS: Mapping[Place, list[Place]] = {
    ("data",): [(source,) for source in DATA_SOURCES],
    ("family",): [("name",), ("folders",)],
}


def shipped_recipes() -> dict[str, Path]:
    """Return name -> file of the recipes that come with the project."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find_recipe(name_or_path: str | Path) -> Path:
    """Resolve a shipped name or a path to a file; `UserError` names the nearest."""
    path, shipped = Path(name_or_path), shipped_recipes()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"there is no recipe file {str(path)!r}: check the path")
    raise UserError(unknown_name("recipe", str(path), shipped) + ", or give a file's path")


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe; `overrides` replaces values by dotted key, as --set does.

    Paths in the recipe are relative to its file; those of a shipped one and of `overrides` to the
    working folder. Raises one `UserError` that lists every problem.

    >>> load_recipe("pocket", {"schedule.steps": 30}).schedule.steps
    30
    """
    path = find_recipe(name_or_path)
    document = parse_yaml_lines(read_content(path, name=path.name), name=path.name)
    data = document.data
    if not isinstance(data, dict):
        raise UserError(f"{path.name} is not a recipe: it must be a mapping with 'schema: 1'")
    found = [(line, f"{path.name}:{line}: {text}") for line, text in document.problems]
    places = {_override(data, key, value): key for key, value in (overrides or {}).items()}
    recipe = None
    try:
        recipe = Recipe.model_validate(data, context={"known": _known()})
    except ValidationError as error:
        for problem in error.errors():
            line, where = _origin(problem["loc"], document.lines, places, path.name)
            found.append((line, f"{where}: {_explained(problem, document.data)}"))
    for problem in _option_problems(data):
        line, where = _origin(problem["loc"], document.lines, places, path.name)
        found.append((line, f"{where}: {_explained(problem, document.data)}"))
    folder = Path.cwd() if path.parent == SHIPPED else path.resolve().parent
    for place, text in _validation_problems(data, folder):
        line, where = _origin(place, document.lines, places, path.name)
        found.append((line, f"{where}: {text}"))
    if found or recipe is None:
        raise UserError.collect([text for _, text in sorted(found)])
    return _with_paths(recipe, folder, overridden=places).attach_path(path.resolve())


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Return dotted key -> value of texts such as "optimizer.batch=8"; values are YAML."""
    found = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not all(key.split(".")):
            raise UserError(f"--set {text!r}: write KEY=VALUE, such as optimizer.batch=8")
        found[key] = parse_yaml(value, name=f"--set {key}")
    return found


def _known() -> KnownNames:
    return {**known_names(), "mapper": tuple(installed("mappers"))}


def _option_problems(data: Mapping[Hashable, Any]) -> Iterator[dict[str, Any]]:
    """Yield pydantic's errors in the options of the mapper, with their places in the recipe."""
    spec = data.get("mapper")
    if not isinstance(spec, dict):
        return
    name = spec.get("name", MapperSpec().name)
    is_known = isinstance(name, str) and name in installed("mappers")
    schema = options_of(name) if is_known else None
    if schema is None:
        return
    try:
        schema.model_validate(merged_options(spec))
    except ValidationError as error:
        for problem in error.errors():
            loc = problem["loc"]
            is_beside = not loc or loc[0] in spec
            place = ("mapper", *(() if is_beside else ("options",)), *loc)
            keys = [*_keys_at(schema, loc[:-1])] if loc else []
            if is_beside and len(loc) == 1:
                keys += MapperSpec.model_fields
            yield {**problem, "loc": place, "keys": keys}


def _validation_problems(data: dict[str, Any], folder: Path) -> Iterator[tuple[Place, str]]:
    if data.get("validation") is not None:
        from bench.train.validation import section_problems  # the planning of runs is slow to load

        yield from section_problems(data, folder)


def _override(data: dict[str, Any], key: str, value: Any) -> Place:
    """Replace a value in the data; return its place, or that of the section it began."""
    *outer, last = place = tuple(key.split("."))
    here, began = data, len(place)
    for depth, part in enumerate(outer, 1):
        if not isinstance(here.get(part), dict):
            here[part], began = {}, min(began, depth)
        here = here[part]
    here[last] = value
    return place[:began]


def _origin(
    loc: Place, lines: Mapping[Place, int], overridden: Mapping[Place, str], name: str
) -> tuple[int, str]:
    """Return the line of a problem's place, and the text that names it."""
    section, rest = loc[:1], loc[1:]
    plain = section + (rest[1:] if rest[:1] in _TAGS.get(section, ()) else rest)
    matching = [
        place
        for place in overridden
        if plain[: len(place)] == place or place[: len(plain)] == plain
    ]
    if plain and matching:
        return 0, f"--set {overridden[max(matching, key=len)]}"
    here: Place = ()
    for part in loc:
        if (*here, part) in lines:
            here = (*here, part)
    return lines[here], f"{name}:{lines[here]}"


def _explained(problem: Mapping[str, Any], data: Mapping[Hashable, Any]) -> str:
    loc, value = problem["loc"], problem["input"]
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given = value.get("source") if isinstance(value, dict) else value
        known = ", ".join(sorted(DATA_SOURCES))
        return f"{dotted(loc, data)} has the source {brief(given)}: use {known}"
    if problem["type"] == "extra_forbidden":
        keys = problem.get("keys") or list(_keys_at(Recipe, loc[:-1]))
        where = dotted(loc, data)
        return unknown_name("key", str(loc[-1]), keys) + f" (in {where})"
    return explain(problem, data, whole=_WHAT)


def _keys_at(model: type[BaseModel], loc: Place) -> Iterator[str]:
    """Yield the keys of the section at a place of a model; tags of unions are part of the place."""
    if not loc:
        yield from (field.alias or name for name, field in model.model_fields.items())
        return
    field = model.model_fields[str(loc[0])]
    rest = loc[1:]
    for inner in _models_in(field.annotation):
        tags = inner.model_fields.get("source")
        if rest and tags is not None:
            if rest[0] in get_args(tags.annotation):
                yield from _keys_at(inner, rest[1:])
        else:
            yield from _keys_at(inner, () if rest == ("folders",) else rest)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union) or get_args(annotation):
        for inner in get_args(annotation):
            yield from _models_in(inner)


def _with_paths(recipe: Recipe, folder: Path, *, overridden: Iterable[Place]) -> Recipe:
    """Return a recipe whose paths are absolute."""
    typed = set(overridden)

    def folder_of(section: str, key: str) -> Path:
        return folder if typed.isdisjoint({(section,), (section, key)}) else Path.cwd()

    def absolute(section: str, key: str, text: str) -> str:
        return _absolute(text, folder_of(section, key))

    changes: dict[str, Any] = {}
    if isinstance(recipe.family, Folders):
        given = recipe.family.model_dump().items()
        changes["family"] = Folders(**{k: absolute("family", k, text) for k, text in given})
    found = {key: getattr(recipe.data, key, None) for key in ("path", "cache")}
    paths = {k: absolute("data", k, text) for k, text in found.items() if isinstance(text, str)}
    if paths:
        changes["data"] = recipe.data.model_copy(update=paths)
    spec = recipe.validation
    if spec is not None and isinstance(spec.manifest, str):
        from bench.train.validation import located

        found = {"manifest": located(spec.manifest, folder_of("validation", "manifest"))}
        changes["validation"] = spec.model_copy(update=found)
    return recipe.model_copy(update=changes) if changes else recipe


def _absolute(text: str, folder: Path) -> str:
    return str((folder / Path(text).expanduser()).resolve())
