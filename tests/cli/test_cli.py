"""The commands: help, results, exit codes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import wholescene
from wholescene.cli import app, main
from wholescene.commands.printing import table
from wholescene.grid import GridPlacement
from wholescene.preparation import Preparation
from wholescene.scene import Scene
from wholescene.systems import config_class, create

from .commanding import GRID, Echo, Run

COMMANDS = (
    "demo", "predict", "overlay", "train", "evaluate", "study", "view", "export", "data check", "submit", "systems", "weights", "info",
    "convert", "doctor",
)  # fmt: skip


def test_help_needs_no_torch_and_no_numpy() -> None:
    code = "import sys; from wholescene.cli import main; main(['--help']); print({'torch', 'numpy', 'PIL', 'yaml'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "set()"


def test_waiting_threads_sleep_unless_the_user_says_otherwise() -> None:
    code = "import os; from wholescene.cli import main; main(['systems']); print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert ran.stdout.splitlines()[-1] == expected


def test_python_runs_the_package_as_the_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "wholescene", "info", "nothing-like-it"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr[:7], ran.stdout) == (2, "error: ", "")
    assert "__main__" not in subprocess.run([sys.executable, "-m", "wholescene", "--help"], capture_output=True, text=True, check=True).stdout


def test_help_lists_every_command(run: Run) -> None:
    said = run("--help").out
    assert all(re.search(rf"^│ {command.split()[0]} ", said, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_the_terminal_and_explains_every_option(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, width: int) -> None:
    monkeypatch.setattr(app, "console", Console(width=width))
    ran = run(*command.split(), "--help")
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= width
    for line in ran.out.splitlines():
        bare = re.fullmatch(r"│ \*? *--?[\w-]+( [A-Z|,\[\]:a-z@]+)? *│", line)
        assert not bare or width == 80, f"an option without a word of help: {line}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_that_parses(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(app, "console", Console(width=200))
    examples = re.findall(rf"^Try: wholescene ({command}\b.*)$", run(*command.split(), "--help").out, re.MULTILINE)
    assert examples
    for example in examples:
        app.parse_args(shlex.split(example), exit_on_error=False, print_error=False)


def test_version(run: Run) -> None:
    assert run("--version").out.strip() == wholescene.__version__


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    ran = run()
    assert ran.code == 0
    assert "predict" in ran.out


# ---- how commands end ------------------------------------------------------------------------------------------------------------


def test_an_interrupt_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wholescene.commands.tables.facts", interrupted)
    ran = run("weights")
    assert (ran.code, ran.err.strip()) == (130, "interrupted")


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m wholescene.cli systems"
    ran = subprocess.run(["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert ran.stdout.strip() in ("141", "0")  # 0 if `true` was still there when the table was written


def test_python_m_gives_the_exit_code_to_the_shell(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-m", "wholescene.cli", "view", tmp_path / "none.npz"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_no_memory_is_said_in_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch, picture: Path, error: Exception) -> None:
    def starved(*_: object) -> None:
        raise error

    monkeypatch.setattr("wholescene.reading.pictures.read_picture", starved)
    assert "not enough memory" in run("overlay", picture).sentence


def test_a_mistake_of_ours_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch, picture: Path) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("wholescene.reading.pictures.read_picture", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run("overlay", picture)


def test_a_warning_of_ours_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, picture: Path) -> None:
    from wholescene.reading import pictures

    read = pictures.read_picture

    def warned(path: Path) -> object:
        warnings.warn("the picture\nis odd", stacklevel=2)
        return read(path)

    monkeypatch.setattr(pictures, "read_picture", warned)
    ran = run("overlay", picture)
    assert (ran.code, ran.err) == (0, "warning: the picture is odd\n")


# ---- predict and overlay ---------------------------------------------------------------------------------------------------------


def test_predict_writes_four_files_and_says_what_was_guessed(run: Run, picture: Path, tiny_weights: Path) -> None:
    ran = run("predict", picture, "--weights", tiny_weights)
    assert ran.code == 0, ran.err
    assert sorted(p.name for p in Path("scenes/photo").iterdir()) == ["scene.html", "scene.npz", "scene.ply", "scene.png"]
    scene = Scene.load("scenes/photo/scene.npz")
    assert scene.grid.shape == GRID.shape
    assert scene.camera is not None
    assert np.isclose(scene.camera.position[2], 1.65)
    assert "field of view 65 degrees" in ran.out
    assert "guessed" in ran.out
    assert "height 1.65 m" in ran.out
    share = float(scene.provenance["share_in_view"])
    assert f"{share:.0%}".replace("%", " %") + " of the grid" in ran.out
    assert "Never trained: its answers mean nothing." in ran.out


def test_what_is_given_is_not_called_a_guess(run: Run, picture: Path, tiny_weights: Path, undrawn: None) -> None:
    ran = run("predict", picture, "--weights", tiny_weights, "--fov", 80, "--height", 1.5, "--pitch", 4, "--out", "here")
    assert "guessed" not in ran.out
    camera = Scene.load("here/photo/scene.npz").camera
    assert camera is not None
    assert np.isclose(camera.position[2], 1.5)
    axis = camera.T_cam_world[2, :3]
    assert np.isclose(np.degrees(np.arcsin(-axis[2])), 4), "positive pitch looks down"
    assert np.isclose(camera.K[0, 0], 160 / np.tan(np.radians(40)))


def test_the_grid_is_where_it_is_asked_for(run: Run, picture: Path, tiny_weights: Path, undrawn: None) -> None:
    ran = run("predict", picture, "--weights", tiny_weights, "--grid", "32x32x16@0.8,0.8,0.2:2,-12.8,-0.5")
    assert ran.code == 0, ran.err
    grid = Scene.load("scenes/photo/scene.npz").grid
    assert grid.voxel_size == (0.8, 0.8, 0.2)
    assert np.allclose(grid.T_world_grid[:3, 3], (2, -12.8, -0.5))


def test_predict_twice_gives_the_same_scene(run: Run, picture: Path, tiny_weights: Path, undrawn: None) -> None:
    for out in ("a", "b"):
        assert run("predict", picture, "--weights", tiny_weights, "--out", out).code == 0
    first, second = (Scene.load(f"{out}/photo/scene.npz") for out in ("a", "b"))
    assert np.array_equal(first.labels, second.labels)


def test_bfloat16_runs(run: Run, picture: Path, tiny_weights: Path, undrawn: None) -> None:
    assert run("predict", picture, "--weights", tiny_weights, "--precision", "bf16").code == 0


def test_two_pictures_of_one_name_get_two_folders(run: Run, picture: Path, tiny_weights: Path, undrawn: None) -> None:
    Image.open(picture).save(picture.with_suffix(".jpg"))
    ran = run("predict", picture, picture.with_suffix(".jpg"), "--weights", tiny_weights)
    assert "2 of 2" in ran.out
    assert sorted(p.name for p in Path("scenes").iterdir()) == ["photo.jpg", "photo.png"]


def test_a_batch_of_which_nothing_works_ends_with_2(run: Run, tmp_path: Path, tiny_weights: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    ran = run("predict", tmp_path / "a.jpg", tmp_path / "b.jpg", "--weights", tiny_weights)
    assert ran.code == 2
    assert "0 of 2 pictures done; failed: a.jpg, b.jpg" in ran.out


def test_a_full_disk_in_a_batch_names_the_picture_and_goes_on(
    run: Run, tmp_path: Path, picture: Path, tiny_weights: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.open(picture).save(tmp_path / "second.png")
    save = Scene.save

    def full(scene: Scene, path: Path) -> None:
        if scene.name == "photo":
            raise OSError(28, "No space left on device", str(path))
        save(scene, path)

    monkeypatch.setattr(Scene, "save", full)
    ran = run("predict", picture, tmp_path / "second.png", "--weights", tiny_weights)
    assert ran.code == 1
    assert "1 of 2 pictures done; failed: photo.png" in ran.out
    assert "No space left" in ran.err


def test_overlay_draws_the_grid(run: Run, picture: Path) -> None:
    ran = run("overlay", picture, "--fov", 80, "--height", 1.6, "--pitch", 2)
    assert ran.code == 0, ran.err
    drawn, plain = (np.asarray(Image.open(p).convert("RGB")) for p in ("photo-overlay.png", picture))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()
    assert "of the grid" in ran.out


def test_overlay_and_predict_agree_on_the_share_in_view(run: Run, picture: Path, tiny_weights: Path, undrawn: None) -> None:
    grid = ("--grid", "32x32x16@1.6,1.6,0.4", "--fov", 70)
    said = [re.search(r"in view +(.*)", run(*words, *grid).out) for words in (("overlay", picture), ("predict", picture, "--weights", tiny_weights))]
    assert said[0]
    assert said[1]
    assert said[0][1] == said[1][1]


@pytest.mark.parametrize("suffix", [".bin", ".npy"])
def test_points_become_occupied_voxels(run: Run, picture: Path, tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr("wholescene.weights.load", lambda *_: Echo())
    points = np.random.default_rng(0).uniform((0, -25, -0.2, 0), (51, 25, 6, 1), (500, 4)).astype("<f4")
    file = tmp_path / f"sweep{suffix}"
    points.tofile(file) if suffix == ".bin" else np.save(file, points)
    ran = run("predict", picture, "--points", file)
    assert ran.code == 0, ran.err
    scene = Scene.load("scenes/photo/scene.npz")
    expected = np.zeros(scene.grid.shape, np.uint8)
    index, inside = scene.grid.index_of(points[:, :3])
    expected[tuple(index[inside].T)] = 1
    assert np.array_equal(scene.labels, expected)
    assert f"{int(expected.sum()):,} voxels of the input" in ran.out
    assert "needs occupancy" in run("predict", picture).sentence


def test_depth_becomes_occupied_voxels(run: Run, picture: Path, tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wholescene.weights.load", lambda *_: Echo())
    np.save(tmp_path / "depth.npy", np.full((96, 320), 10.0))
    assert run("predict", picture, "--depth", tmp_path / "depth.npy", "--pitch", 0, "--height", 1.65).code == 0
    points, _ = Scene.load("scenes/photo/scene.npz").points()
    assert len(points) > 5
    assert np.abs(points[:, 0] - 10).max() <= 0.8 + 1e-9, "a wall 10 m ahead, within half a voxel"


@pytest.mark.slow  # the bundled weights on their whole grid: about 10 s
def test_the_demo_completes_the_street_in_the_package_and_compares(run: Run) -> None:
    ran = run("demo")
    assert ran.code == 0, ran.err
    assert sorted(p.name for p in Path("demo").iterdir()) == ["image.png", "scene.html", "scene.npz", "scene.ply", "scene.png"]
    assert re.search(r"completion IoU [\d.]+%", ran.out)
    assert "Trained on rendered streets only" in ran.out
    scene = Scene.load("demo/scene.npz")
    assert scene.grid.shape == (256, 256, 32)
    assert scene.counts()["road"] > 1000


@pytest.mark.slow  # the bundled weights for rooms: about 5 s
def test_the_demo_completes_the_room_in_the_package_and_compares(run: Run) -> None:
    ran = run("demo", "--room")
    assert ran.code == 0, ran.err
    assert "room 2000001: from the package" in ran.out
    assert "(this room alone)" in ran.out
    assert "on rendered rooms only" in ran.out
    scene = Scene.load("demo/scene.npz")
    assert scene.grid.shape == (60, 60, 36)
    assert scene.counts()["floor"] > 500


def test_the_demo_with_weights_for_another_grid_says_what_to_do(run: Run, tiny_weights: Path) -> None:
    assert "--seed" in run("demo", "--weights", tiny_weights).sentence
    assert "the room in the package has (60, 60, 36) voxels of nyuv2" in run("demo", "--room", "--weights", tiny_weights).sentence
    assert "--room" in run("demo", "--room", "--seed", 1, "--weights", tiny_weights).sentence
    assert "the room in the package" in run("demo", "--room", "--weights", "monoscene-street-small").sentence  # named, so not replaced


# ---- view and export -------------------------------------------------------------------------------------------------------------


def test_view_writes_a_page_beside_the_scene(run: Run, cases: Path, tmp_path: Path) -> None:
    scene = tmp_path / "scene.npz"
    scene.write_bytes((cases / "G01_chiral_scene.npz").read_bytes())
    ran = run("view", scene, "--no-open")
    assert ran.code == 0, ran.err
    assert scene.with_suffix(".html").stat().st_size > 1000


def test_view_takes_the_folder_that_predict_wrote(run: Run, cases: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "scene.npz").write_bytes((cases / "G01_chiral_scene.npz").read_bytes())
    assert run("view", tmp_path / "s", "--no-open").code == 0
    assert (tmp_path / "s" / "scene.html").exists()


@pytest.mark.parametrize("suffix", [".ply", ".glb", ".html", ".png", ".npz"])
def test_export_writes_what_the_suffix_says(run: Run, cases: Path, suffix: str) -> None:
    ran = run("export", cases / "G01_chiral_scene.npz", f"x{suffix}")
    assert ran.code == 0, ran.err
    start = {".ply": b"ply", ".glb": b"glTF", ".html": b"<!", ".png": b"\x89PNG", ".npz": b"PK"}[suffix]
    assert Path(f"x{suffix}").read_bytes().lower().startswith(start.lower())
    assert "5 occupied voxels" in ran.out


# ---- experiments -----------------------------------------------------------------------------------------------------------------


def _weights_for(path: Path, **fields: object) -> Path:
    from wholescene.checkpoints import native

    native.save(path, create("monoscene", config_class("monoscene").preset("clean", "tiny", **fields)), card={"name": "tiny"})  # type: ignore[attr-defined]
    return path


def test_evaluate_prints_scores_with_all_that_they_depend_on(run: Run, tmp_path: Path) -> None:
    weights = _weights_for(tmp_path / "w.safetensors", grid=GridPlacement((64, 64, 16), (0.8, 0.8, 0.4)), preparation=Preparation())
    ran = run("evaluate", "monoscene-street-tiny", "--weights", weights, "--limit", 1, "--out", "scores.json")
    assert ran.code == 0, ran.err
    for word in ("mIoU (semantic-kitti)", "visible", "hidden", "near", "protocol", "1 of 4", "data revision", "weights", "hardware", "val"):
        assert word in ran.out
    scores = json.loads(Path("scores.json").read_text())
    printed = re.search(r"completion IoU +([\d.]+)", ran.out)
    assert printed
    assert np.isclose(float(printed[1]) / 100, scores["scores"]["all"]["iou"], atol=5e-5)


@pytest.mark.slow  # a fake test split on the benchmark's whole grid: about 10 s
def test_submit_writes_what_the_server_takes(run: Run, tmp_path: Path) -> None:
    from fake_semantic_kitti import write_fake_semantic_kitti  # type: ignore[import-not-found]  # tests/ is on the path

    write_fake_semantic_kitti(tmp_path, {"08": 1, "11": 1}, pictures=False)
    weights = _weights_for(tmp_path / "w.safetensors")
    ran = run("submit", "monoscene-semantic-kitti", "--weights", weights, "--root", tmp_path, "--out", "s.zip")
    assert ran.code == 0, ran.out + ran.err
    with zipfile.ZipFile("s.zip") as archive:
        assert archive.getinfo("sequences/11/predictions/000000.label").file_size == 2 * 256 * 256 * 32
    assert "1 predictions" in ran.out


# ---- what there is ---------------------------------------------------------------------------------------------------------------


def test_systems_and_weights_are_listed_plainly_in_a_pipe(run: Run) -> None:
    said = run("systems").out
    assert "monoscene" in said
    assert "\x1b" not in said
    assert "│" not in said
    assert "monoscene-street-small" in run("weights").out
    assert "CVPR 2022" in said


def test_weights_of_one_name_say_licence_and_source(run: Run) -> None:
    said = run("weights", "monoscene-street-small").out
    assert "Apache-2.0" in said
    assert "in the package" in said


def test_doctor_answers_and_names_what_to_mend(run: Run, tmp_path: Path) -> None:
    ran = run("doctor", "--data", tmp_path / "none")
    assert ran.code == 1
    assert "torch" in ran.out
    assert re.search(r"none +is not a folder.*mend", ran.out)


def test_doctor_survives_a_sick_package(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    import_module = importlib.import_module

    def sick(name: str, package: str | None = None) -> object:
        if name == "lightning":
            raise RuntimeError("operator torchvision::nms does not exist")
        return import_module(name, package)

    monkeypatch.setattr("importlib.import_module", sick)
    ran = run("doctor")
    assert ran.code == 1
    assert re.search(r"lightning .*cannot be imported \(operator torchvision::nms", ran.out)


def test_main_without_arguments_reads_those_of_the_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["wholescene", "--version"])
    assert main() == 0
    assert wholescene.__version__ in capsys.readouterr().out


def test_tables_are_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table(("name", "score"), [("[bold]a", "7.25"), ("b", "10.50")])
    said = capsys.readouterr().out
    assert "│" in said
    assert "[bold]a" in said, "text is text, not markup"
    assert re.search(r" +7\.25 │", said), "numbers stand to the right"
