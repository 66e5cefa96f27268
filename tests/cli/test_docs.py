"""The pages: their Python runs, their commands parse, and nothing that the command line knows is missing."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import study_tables
import torch
from PIL import Image

from wholescene import recipes
from wholescene.cli import app
from wholescene.commands.overrides import overrides_from
from wholescene.configuring import to_plain
from wholescene.info import measure, rooms
from wholescene.recipes import names
from wholescene.systems import create, list_systems, preset
from wholescene.training import study as studies
from wholescene.weights import WEIGHTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("../README.md", "index.md", "predict.md", "conventions.md", "commands.md", "depth.md", "refinement.md", "rooms.md")


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in (DOCS / p).read_text()])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_weights: Path, undrawn: None) -> None:
    from wholescene import weights

    load = weights.load
    monkeypatch.setattr(weights, "load", lambda name, *more: load(tiny_weights if str(name) in weights.WEIGHTS else name, *more))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (640, 480), (90, 110, 90)).save("photo.jpg")
    Image.new("RGB", (1241, 376), (90, 110, 90)).save("street.png")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(compile(block, page, "exec"), names)


SYSTEMS = [name for name in list_systems() if name != "dial"]  # forged by the tests of training, where they are imported first
ALL_PAGES = (*PAGES, "training.md", "scale_out.md", "systems.md", "converting.md", "studies.md", "speed.md", "own_recordings.md")


def _commands_of(page: str) -> Iterator[list[str]]:
    """The words of each command of ours in a page's blocks, also where another program starts it."""
    blocks = re.findall(r"```(?:sh|console|text)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        if re.match(r"(?:\$ |srun |torchrun .*--no-python )?wholescene ", line):
            words = shlex.split(line, comments=True)
            yield words[words.index("wholescene") + 1 :]


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_commands_of_a_page_parse(page: str) -> None:
    for words in _commands_of(page):
        app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_recipes_studies_and_fields_that_a_page_names_exist(page: str) -> None:
    for words in _commands_of(page):
        given = app.parse_args(words, exit_on_error=False, print_error=False)[1].arguments
        if words[0] == "train" and "resume" in given and "recipe" not in given:
            continue  # by the recipe that the run keeps
        if words[0] == "train":
            recipe = recipes.load(given["recipe"], overrides_from(given.get("fields", ())))
            with torch.device("meta"):
                create(recipe.system.name, recipe.system.config())
        elif words[0] in ("evaluate", "submit"):
            recipes.load(given["recipe"])
        elif words[0] == "study" and not words[1].endswith(".yaml"):
            studies.load(words[1])


def test_every_recipe_is_on_the_page_of_training() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "training.md").read_text(), re.MULTILINE)
    patterns = [pattern for row in rows for pattern in re.findall(r"`(.*?)`", row)]
    assert not [name for name in names() if not any(fnmatchcase(name, p) for p in patterns)]


def test_every_page_is_in_the_menu_and_on_the_first_page() -> None:
    menu, pages = (DOCS.parent / "mkdocs.yml").read_text(), sorted(DOCS.glob("*.md"))
    assert not [page.name for page in pages if f": {page.name}\n" not in menu]
    start = (DOCS / "index.md").read_text()
    assert not [page.name for page in pages if page.name != "index.md" and f"({page.name})" not in start]


def _commands() -> list[tuple[str, ...]]:
    return [("data", "check") if name == "data" else (name,) for name in app if not name.startswith("-")]


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_and_option_is_on_the_page_of_commands(command: tuple[str, ...]) -> None:
    text = (DOCS / "commands.md").read_text()
    section = re.search(rf"^### {' '.join(command)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"no section for {' '.join(command)}"
    found = app
    for name in command:
        found = found[name]
    for argument in found.assemble_argument_collection():
        for name in argument.names:
            if name.startswith("--") and not name.startswith(("--no-", "--empty-")):
                spelled = "--no-open" if name == "--open" else name
                assert spelled in section[1], f"{spelled} of {' '.join(command)} is not explained"


@pytest.mark.skipif(shutil.which("zensical", path=Path(sys.executable).parent) is None, reason="zensical (extra `docs`) is not installed")
def test_the_pages_build_without_a_dead_link(tmp_path: Path) -> None:
    for name in ("mkdocs.yml", "docs"):
        source = DOCS.parent / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    ran = subprocess.run([Path(sys.executable).parent / "zensical", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "site" / "predict" / "index.html").exists()


SRC = DOCS.parent / "src" / "wholescene"


def _section(page: str, heading: str) -> str:
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {heading}"
    return found[1]


def _leaves(plain: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in plain.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_every_file_and_name_on_the_page_of_systems_is_there() -> None:
    """Each row of mechanisms names what the file defines: `Name` in `file`, `Name` and `Other` in `file`, `file`."""
    named = re.findall(r"((?:`\w+`(?:, | and ))*`\w+`) in `([\w/]+\.py)`", (DOCS / "systems.md").read_text())
    assert len(named) > 60
    for names_of, file in named:
        text = (SRC / file).read_text()
        for name in re.findall(r"`(\w+)`", names_of):
            assert re.search(rf"^(?:class|def) {name}\b", text, re.MULTILINE), f"{file} has no {name}"
    for file in re.findall(r"`([\w/]+\.py)`", (DOCS / "systems.md").read_text()):
        assert (SRC / file).is_file(), file


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_field_that_conventions_change_is_on_the_page_of_systems(system: str) -> None:
    clean, exact, paper = (_leaves(to_plain(preset(system, conventions, "full"))) for conventions in ("clean", "exact", "paper"))
    changed = {name for name in clean if not clean[name] == exact.get(name) == paper.get(name)}
    rows = set(re.findall(r"^\| `([a-z_.]+)` \|", _section("systems.md", system), re.MULTILINE))
    if system == "scanssc":  # its table goes on from CGFormer's, where the rows that hold for both end with this one
        shared = re.findall(r"^\| `([a-z_.]+)` \|", _section("systems.md", "cgformer"), re.MULTILINE)
        rows |= {name for name in shared if name not in ("plane_norms", "small_shift")}
    assert rows == changed


def _size_row(system: str) -> re.Match[str]:
    found = re.search(rf"^\| `{system}` \| ([\d,]+) \| ([\d,]+) \| (.+) \|$", (DOCS / "systems.md").read_text(), re.MULTILINE)
    assert found, f"{system} has no row of sizes"
    return found


@pytest.mark.parametrize("system", SYSTEMS)
def test_parameters_on_the_page_of_systems_are_those_of_the_system(system: str) -> None:
    row = _size_row(system)
    with torch.device("meta"):
        model = create(system, preset(system, "exact", "full"))
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in rooms(model).items()}
    assert row[1] == f"{sum(parts.values()):,}"
    said = {name: float(number) for name, number in re.findall(r"`(\w+)` ([\d.]+)", row[3])}
    assert said.keys() == {name for name, count in parts.items() if count}
    assert all(number == pytest.approx(parts[name] / 1e6, abs=0.051) for name, number in said.items())


@pytest.mark.slow  # up to half a minute a system
@pytest.mark.parametrize("system", SYSTEMS)
def test_multiply_adds_on_the_page_of_systems_are_those_of_info(system: str) -> None:
    assert _size_row(system)[2] == f"{measure(system, 'exact', 'full').multiply_adds / 1e9:,.0f}"


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_recipe_is_in_the_section_of_its_system(system: str) -> None:
    own = [name for name in names() if name.startswith(f"{system}-")]
    assert not [name for name in own if f"`{name}`" not in _section("systems.md", system)]


@pytest.mark.parametrize("name", studies.names())
def test_every_study_has_a_place_for_its_result(name: str) -> None:
    study, section = studies.load(name), _section("studies.md", name)
    runs = int(re.search(r"^(\d+) runs", section, re.MULTILINE)[1])  # type: ignore[index]
    assert runs == len(study.variants) * len(study.seeds)


def test_every_released_file_is_on_the_page_of_converting() -> None:
    page = (DOCS / "converting.md").read_text()
    for card in WEIGHTS.values():
        if card.bundled:
            continue
        assert f"--weights {card.name}\n" in page, card.name
        assert card.source in page, card.source
        setting = card.name.removeprefix(f"{card.system}-")
        row = re.search(rf"^\| `{card.name}` \| ([\d,]+) \|", page, re.MULTILINE)
        with torch.device("meta"):
            live = len(create(card.system, preset(card.system, "exact", "full", setting)).state_dict())
        assert row, f"{card.name} has no row"
        assert int(row[1].replace(",", "")) == live, f"{card.name} takes {live} tensors"


def test_the_tables_of_studies_are_what_their_runs_scored() -> None:
    text = (DOCS / "studies.md").read_text()
    assert study_tables.page(text) == text, "run `python benchmarks/study_tables.py`"
