"""The pages: their Python runs, their commands parse, and nothing that the command line knows is missing."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from PIL import Image

from wholescene.cli import app
from wholescene.recipes import names

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


@pytest.mark.parametrize("page", [*PAGES, "training.md", "scale_out.md"])
def test_the_commands_of_a_page_parse(page: str) -> None:
    blocks = re.findall(r"```(?:sh|console|text)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[:1] == ["wholescene"]:
            app.parse_args(words[1:], exit_on_error=False, print_error=False)


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
