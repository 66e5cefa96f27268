"""Recipes: one YAML a published experiment, with every number of its paper in it. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wholescene.configuring import from_plain, to_plain, with_field
from wholescene.errors import InputError, unknown_name
from wholescene.recipes.reading import dump_yaml, parse_overrides, read_yaml
from wholescene.recipes.recipe import Budget, Group, Initial, Optimiser, Recipe, Stage, SystemChoice, Validation
from wholescene.recipes.schedule import Schedule

__all__ = [
    "Budget", "Group", "Initial", "Optimiser", "Recipe", "Schedule", "Stage", "SystemChoice", "Validation",
    "changed", "dump", "load", "names", "parse_overrides", "stages_of",
]  # fmt: skip

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Recipes that the package carries."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """A recipe by name, or from a YAML file.

    Args:
        name_or_path: one of `names()`, or a path that ends in .yaml or .yml.
        overrides: dotted name -> value: {"optimiser.lr": 3e-4, "system.fields.features": 16}.

    Raises:
        InputError: an unknown name or field (with the nearest), a value of the wrong kind, a file that is not strict YAML.
    """
    path = _found(name_or_path)
    plain = read_yaml(path, "recipe")
    if not isinstance(plain, dict):
        raise InputError(f"{path} holds no mapping of fields; a recipe starts with name:, system: and budget:")
    return _read(plain, overrides or {}, str(name_or_path))


def changed(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """A copy with some fields changed, by dotted name.

    Raises:
        InputError: as `load`.
    """
    return _read(to_plain(recipe), overrides, recipe.name)


def dump(recipe: Recipe) -> str:
    """YAML that `load` reads back as the same recipe, every default written out."""
    return dump_yaml(to_plain(recipe))


def stages_of(recipe: Recipe) -> list[Recipe]:
    """The trainings of a recipe in their order: itself, or one recipe a stage, named `recipe/stage`.

    Raises:
        InputError: two stages of one name, or a change of a field that does not exist.
    """
    if not recipe.stages:
        return [recipe]
    if len({stage.name for stage in recipe.stages}) < len(recipe.stages):
        raise InputError(f"recipe {recipe.name}: two stages have the same name; each has a folder of its own")
    return [
        changed(
            recipe,
            {
                **stage.changes, "name": f"{recipe.name}/{stage.name}", "stages": (),
                "init_from": to_plain(stage.init_from), "frozen": stage.frozen,
            },
        )
        for stage in recipe.stages
    ]  # fmt: skip


def _read(plain: dict[str, Any], overrides: dict[str, Any], where: str) -> Recipe:
    for path, value in overrides.items():
        plain = with_field(plain, path, value)
    recipe = from_plain(Recipe, plain, f"recipe {where}")
    recipe.system.config()
    return recipe


def _found(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        return Path(text)
    if text not in names():
        raise unknown_name("recipe", text, names(), "wholescene train --list")
    return _FOLDER / f"{text}.yaml"
