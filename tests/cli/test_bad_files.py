"""Files of our own formats, and places to write to, as people and attackers hand them in: weights, scenes, full disks.

The `run` fixture checks every command for tracebacks and half-written files; `Ran.sentence` for the exit code and the single line.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from wholescene.grid import VoxelGrid
from wholescene.labels import SEMANTIC_KITTI
from wholescene.scene import Scene

from .commanding import Run, says

# ---- weights ---------------------------------------------------------------------------------------------------------------------


class Touch:
    """Unpickling it makes a file: the proof that code ran."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran").absolute(),))


def _without_metadata(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, path)


def _half_of(path: Path, weights: Path) -> None:
    path.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


WEIGHTS: dict[str, tuple[Callable[[Path, Path], object], list[str]]] = {
    "missing.safetensors": (lambda path, good: None, ["missing.safetensors", "does not exist"]),
    "empty.safetensors": (lambda path, good: path.write_bytes(b""), ["empty"]),
    "half.safetensors": (_half_of, ["half.safetensors", "cut off", "copy it again"]),
    "other.safetensors": (lambda path, good: _without_metadata(path), ["without wholescene's description"]),
    "header.safetensors": (lambda path, good: path.write_bytes(struct.pack("<Q", 2**60) + b"{}"), ["header.safetensors"]),
    "noise.pt": (lambda path, good: path.write_bytes(bytes(range(256)) * 8), ["noise.pt"]),
    "folder": (lambda path, good: path.mkdir(), ["folder"]),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none(run: Run, tmp_path: Path, picture: Path, tiny_weights: Path, name: str) -> None:
    make, said = WEIGHTS[name]
    make(tmp_path / name, tiny_weights)
    says(run("predict", picture, "--weights", tmp_path / name).sentence, *said)
    assert not Path("scenes").exists()


def _changed(path: Path, weights: Path, change: Callable[[dict[str, object]], None]) -> None:
    """The weights with another description."""
    content = weights.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["wholescene"])
    change(about)
    header["__metadata__"]["wholescene"] = json.dumps(about)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: about.update(format=99), ["format 99", "update"]),
        (lambda about: about.update(system="monoscen"), ["nearest", "'monoscene'"]),
        (lambda about: about["config"].update(featurs=3), ["featurs", "nearest", "'features'"]),
        (lambda about: about["config"].update(features=16), ["expected"]),
        (lambda about: about.update(labels=["empty"]), ["classes"]),
        (lambda about: about["config"].update(features=10**7), ["half_"]),
        (lambda about: about["config"].update(features=10**9), ["w.safetensors", "can be built", "write the file anew"]),
        (lambda about: about["config"]["grid"].update(shape=[10**6] * 3), ["1,000,000 x", "too large"]),
        (lambda about: about["config"]["grid"].update(shape=[0, 8, 8]), ["w.safetensors", "voxels"]),
        (lambda about: about["config"]["grid"].update(axes="xxz"), ["w.safetensors", "axes", "'xzy'"]),
        (lambda about: about["config"]["grid"].update(voxel_size=[1e-300] * 3), ["voxel size", "positive"]),
        (lambda about: about["config"]["grid"].update(corner=[1e308] * 3), ["corner"]),
        (lambda about: about["config"]["preparation"].update(fit="resize", size=[0, 0]), ["0 x 0 pixels"]),
        (lambda about: about["config"]["preparation"].update(fit="resize", size=[10**6, 10**6]), ["1,000,000 x"]),
        (lambda about: about["config"]["preparation"].update(std=[0.0] * 3), ["std"]),
        (lambda about: about["config"]["preparation"].update(mean=[float("nan")] * 3), ["mean"]),
    ],
    ids=["format", "system", "field", "shape", "labels", *map(str, range(11))],
)
def test_weights_with_another_description(
    run: Run, tmp_path: Path, picture: Path, tiny_weights: Path, change: Callable[[dict[str, object]], None], said: list[str]
) -> None:
    _changed(tmp_path / "w.safetensors", tiny_weights, change)
    says(run("predict", picture, "--weights", tmp_path / "w.safetensors").sentence, *said)


@pytest.mark.parametrize("protocol", ["zip", "pickle"])
@pytest.mark.parametrize("command", ["predict", "convert", "back"])
def test_code_inside_a_checkpoint_does_not_run(run: Run, tmp_path: Path, picture: Path, protocol: str, command: str) -> None:
    evil = tmp_path / "evil.ckpt"
    if protocol == "zip":
        torch.save({"state_dict": {"a": torch.ones(2)}, "run": Touch()}, evil)
    else:
        evil.write_bytes(pickle.dumps({"state_dict": Touch()}))
    words = {
        "predict": ("predict", picture, "--weights", evil),
        "convert": ("convert", evil, "out.safetensors", "--system", "monoscene"),
        "back": ("convert", evil, "out.ckpt", "--back"),
    }[command]
    says(run(*words).sentence, "evil.ckpt")
    assert not Path("ran").exists()
    if protocol == "zip":
        torch.load(evil, weights_only=False)
    else:
        pickle.loads(evil.read_bytes())  # noqa: S301  the trap, sprung on purpose
    assert Path("ran").exists(), "the trap would have worked"


# ---- scenes ----------------------------------------------------------------------------------------------------------------------


def _scene(path: Path) -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1:, 1, 1] = 9
    Scene(labels, VoxelGrid((4, 4, 4), (1.0, 1.0, 1.0)), SEMANTIC_KITTI).save(path)


def _entries(path: Path, **changed: bytes) -> None:
    """The scene with other bytes under some names."""
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**held, **{k.replace("_npy", ".npy"): v for k, v in changed.items()}}.items():
            archive.writestr(name, content)


def _npy(array: np.ndarray, promised: tuple[int, ...] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": promised or array.shape}
    )
    return file.getvalue() + array.tobytes()


def _slip(path: Path) -> None:
    _scene(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../slipped.txt", "out of the folder")


SCENES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "text": (lambda path: path.write_text("scene"), ["scene.npz", "not a whole scene"]),
    "cut": (lambda path: (_scene(path), path.write_bytes(path.read_bytes()[:-40])), ["scene.npz"]),
    "lying header": (lambda path: (_scene(path), _entries(path, labels_npy=_npy(np.zeros(8, np.uint8), (9999, 9999, 99)))), ["labels"]),
    "wrong size": (lambda path: (_scene(path), _entries(path, labels_npy=_npy(np.zeros((4, 4, 5), np.uint8)))), ["labels", "(4, 4, 5)"]),
    "wrong kind": (lambda path: (_scene(path), _entries(path, labels_npy=_npy(np.zeros((4, 4, 4), np.float64)))), ["labels", "float64"]),
    "no class": (lambda path: (_scene(path), _entries(path, labels_npy=_npy(np.full((4, 4, 4), 77, np.uint8)))), ["77", "semantic-kitti"]),
    "pickle": (lambda path: np.savez(path, labels=np.array([Touch()], object)), ["labels"]),
    "description": (lambda path: (_scene(path), _entries(path, meta_npy=_npy(np.frombuffer(b"{}", np.uint8)))), ["another kind"]),
    "zip slip": (_slip, ["other things"]),
    "folder": (lambda path: path.mkdir(), ["scene.npz"]),
}


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("command", ["view", "export"])
def test_scenes_that_are_none(run: Run, tmp_path: Path, name: str, command: str) -> None:
    make, said = SCENES[name]
    make(tmp_path / "scene.npz")
    words = ("view", tmp_path / "scene.npz", "--no-open") if command == "view" else ("export", tmp_path / "scene.npz", "out.ply")
    says(run(*words).sentence, *said)
    assert not list(Path().iterdir())
    assert not (tmp_path / "scene.html").exists()
    assert not list(tmp_path.parent.glob("slipped.txt"))


@pytest.mark.parametrize(
    ("target", "said"), [("x.obj", ["suffix", ".ply"]), ("x", ["suffix"]), ("file/x.ply", ["file/x.ply"]), ("full.ply", ["full.ply"])]
)
def test_places_that_cannot_be_written(run: Run, tmp_path: Path, target: str, said: list[str]) -> None:
    _scene(tmp_path / "scene.npz")
    Path("file").write_text("no folder")
    Path("full.ply").mkdir()
    says(run("export", tmp_path / "scene.npz", target).sentence, *said)


def test_points_are_for_ply_alone(run: Run, tmp_path: Path) -> None:
    _scene(tmp_path / "scene.npz")
    says(run("export", tmp_path / "scene.npz", "x.glb", "--points").sentence, "points", ".glb")


# ---- full disks ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ply", ".glb", ".html", ".png", ".npz"])
def test_a_full_disk_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    _scene(tmp_path / "scene.npz")
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if str(target).endswith(f"out{suffix}"):
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    says(run("export", tmp_path / "scene.npz", f"out{suffix}").sentence, f"out{suffix}", "No space left")
    assert not list(Path().iterdir())


def test_a_disk_that_is_really_full_leaves_nothing(tmp_path: Path) -> None:
    """The kernel itself refuses: files of this process may not grow beyond a few kilobytes."""
    _scene(tmp_path / "scene.npz")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    code = "import signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from wholescene.cli import main; sys.exit(main(sys.argv[1:]))"
    ran = subprocess.run(
        [sys.executable, "-c", code, "export", tmp_path / "scene.npz", tmp_path / "out.png"],
        capture_output=True, text=True, check=False, preexec_fn=limited, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.startswith("error: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scene.npz"]
