"""A run killed at any moment goes on to the same weights, bit for bit."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from dial import MONOSCENE, Forged, ForMonoScene, recipe
from safetensors.torch import load

from wholescene import recipes
from wholescene.errors import InputError
from wholescene.structures import Frame
from wholescene.training.checkpoint_files import list_checkpoints, newest
from wholescene.training.run import train

LONG = {"budget__epochs": 3.0, "ema": 0.9, "checkpoint_every": 2, "schedule": {"kind": "cosine", "warm_up": 1.0}}
FRAMES = 7


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class StoppedError(Exception):
    """Stands for whatever ends a run."""


class Failing(Forged):
    """A dataset whose n-th access ends the process, or raises."""

    def __init__(self, count: int, at: int, kill: bool = False) -> None:
        super().__init__(count)
        self.left, self.kill = at, kill

    def __getitem__(self, index: int) -> Frame:
        self.left -= 1
        if self.left < 0:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise StoppedError
        return super().__getitem__(index)


def _run(out: Path, train_frames: Forged | None = None, resume: Any = None, **overrides: Any) -> dict[str, bytes]:
    made = train(recipe(**{**LONG, **overrides}), out, resume, datasets={"train": train_frames or Forged(FRAMES), "val": Forged(3, 100)})
    return {name: path.read_bytes() for name, path in (("final", made.final), ("best", made.best))}


def _assert_same_weights(a: dict[str, bytes], b: dict[str, bytes]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        left, right = load(a[name]), load(b[name])
        assert left.keys() == right.keys()
        assert [key for key in left if not torch.equal(left[key], right[key])] == []


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    torch.set_num_threads(1)
    return _run(tmp_path_factory.mktemp("whole"))


def test_a_run_killed_at_a_random_step_resumes_to_the_same_weights(tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    at = random.SystemRandom().randrange(5, 3 * FRAMES)
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import torch; torch.set_num_threads(1)\n"
        f"from test_resume import Failing, _run; from pathlib import Path; _run(Path({str(tmp_path)!r}), Failing({FRAMES}, {at}, kill=True))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (tmp_path / "final.safetensors").exists()
    _assert_same_weights(_run(tmp_path, resume=True), uninterrupted)


@pytest.mark.parametrize("at", [1, 6, 7, 12, 20])
def test_a_run_interrupted_anywhere_resumes_to_the_same_weights(tmp_path: Path, uninterrupted: dict[str, bytes], at: int) -> None:
    with pytest.raises(StoppedError):
        _run(tmp_path, Failing(FRAMES, at))
    _assert_same_weights(_run(tmp_path, resume=True), uninterrupted)


def test_an_interrupted_run_says_where_it_goes_on(tmp_path: Path) -> None:
    class Interrupted(Failing):
        def __getitem__(self, index: int) -> Frame:
            try:
                return super().__getitem__(index)
            except StoppedError:
                raise KeyboardInterrupt from None

    lines: list[str] = []
    data: Any = {"train": Interrupted(FRAMES, 9), "val": Forged(1, 100)}
    with pytest.raises(KeyboardInterrupt):
        train(recipe(**LONG), tmp_path, datasets=data, say=lines.append)
    assert lines[-1] == f"stopped after step 4; resume to go on from {list_checkpoints(tmp_path)[0].name}"


def test_a_run_interrupted_twice_and_amid_accumulated_parts_resumes_to_the_same_weights(tmp_path: Path) -> None:
    more = {"batch_size": 4, "accumulation": 2, "checkpoint_every": 1}
    whole = _run(tmp_path / "whole", **more)
    for at in (7, 7):
        with pytest.raises(StoppedError):
            _run(tmp_path / "parts", Failing(FRAMES, at), resume=True, **more)
    _assert_same_weights(_run(tmp_path / "parts", resume=True, **more), whole)


def test_monoscene_interrupted_amid_an_epoch_resumes_to_the_same_weights(tmp_path: Path) -> None:
    class Stopping(Failing, ForMonoScene):
        """Frames for MonoScene, up to a point."""

    def run(out: Path, frames: Forged, resume: bool | None = None) -> dict[str, bytes]:
        made = recipe(**MONOSCENE, budget={"steps": 4}, validation__every=None)
        return {"final": train(made, out, resume, datasets={"train": frames, "val": ForMonoScene(1, 100)}).final.read_bytes()}

    whole = run(tmp_path / "whole", ForMonoScene(5))
    with pytest.raises(StoppedError):
        run(tmp_path / "parts", Stopping(5, 5))
    _assert_same_weights(run(tmp_path / "parts", ForMonoScene(5), resume=True), whole)


def test_the_number_of_loader_processes_changes_nothing(tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    _assert_same_weights(_run(tmp_path, workers=2), uninterrupted)


def test_another_seed_gives_other_weights(tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    assert _run(tmp_path, seed=1)["final"] != uninterrupted["final"]


def test_resuming_into_a_new_folder_leaves_the_old_files_as_they_are(tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    with pytest.raises(StoppedError):
        _run(tmp_path / "a", Failing(FRAMES, 12))

    def hashes() -> dict[str, str]:
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / "a").rglob("*")) if p.is_file()}

    before = hashes()
    made = _run(tmp_path / "b", resume=tmp_path / "a")
    assert hashes() == before
    assert list_checkpoints(tmp_path / "b")
    _assert_same_weights(made, uninterrupted)


def test_a_half_written_newest_checkpoint_is_skipped_with_a_warning(tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    with pytest.raises(StoppedError):
        _run(tmp_path, Failing(FRAMES, 12))
    latest, before = list_checkpoints(tmp_path)[:2]
    latest.write_bytes(latest.read_bytes()[: latest.stat().st_size // 2])
    with pytest.warns(UserWarning, match=rf"skipping a checkpoint: .*{latest.name}"):
        standing = newest(tmp_path)
    assert standing is not None
    assert standing.path == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _assert_same_weights(_run(tmp_path, resume=True), uninterrupted)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    _run(tmp_path, checkpoint_every=1)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000011.ckpt", "step-00000010.ckpt"]


def test_checkpoints_hold_plain_types_and_tensors_only(tmp_path: Path) -> None:
    _run(tmp_path)
    torch.load(list_checkpoints(tmp_path)[0], weights_only=True)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    _run(tmp_path)
    _assert_same_weights(_run(tmp_path, Failing(FRAMES, 0), resume=True), uninterrupted)


def test_a_finished_run_goes_on_when_its_budget_is_raised(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole", schedule={"kind": "constant"}, budget__epochs=4.0)
    _run(tmp_path / "raised", schedule={"kind": "constant"}, budget__epochs=2.0)
    raised = _run(tmp_path / "raised", resume=True, schedule={"kind": "constant"}, budget__epochs=4.0)
    _assert_same_weights(raised, whole)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (MONOSCENE, "differs in system"),
        ({"optimiser": {"name": "sgd", "lr": 1e-2}}, "differs in optimiser.name"),
        ({"optimiser__groups": [{"pattern": "*", "lr_factor": 0.1}]}, "differs in optimiser.groups"),
        ({"frozen": ["*weight"]}, "differs in frozen"),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_run_of_another_system_or_optimiser_is_refused_before_anything_is_touched(
    tmp_path: Path, changed: dict[str, Any], said: str, elsewhere: bool
) -> None:
    _run(tmp_path / "run", schedule={"kind": "constant"}, budget__epochs=1.0)
    before = _hashes(tmp_path)
    out = tmp_path / "other" if elsewhere else tmp_path / "run"
    with pytest.raises(InputError, match=said):
        _run(out, Failing(FRAMES, 0), resume=tmp_path / "run", schedule={"kind": "constant"}, budget__epochs=2.0, **changed)
    assert _hashes(tmp_path) == before
    assert not (tmp_path / "other").exists()


def _hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("resume", "said"), [(None, "already holds a run"), ("nowhere", "does not exist"), ("empty", "holds no checkpoint")])
def test_what_cannot_be_resumed_is_refused(tmp_path: Path, resume: str | None, said: str) -> None:
    out = tmp_path / "run"
    (tmp_path / "empty").mkdir()
    if resume is None:
        _run(out)
    with pytest.raises(InputError, match=said):
        _run(out, resume=resume and tmp_path / resume)


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(InputError, match="not written by"):
        _run(tmp_path / "run", resume=tmp_path / "foreign.ckpt")


@pytest.mark.parametrize("own", [{}, {"progress": 3}, {"progress": {}}, 7, None])
def test_a_forged_checkpoint_is_refused(tmp_path: Path, own: Any) -> None:
    torch.save({"wholescene": own}, tmp_path / "forged.ckpt")
    with pytest.raises(InputError, match=r"forged\.ckpt does not say where its run stood"):
        newest(tmp_path / "forged.ckpt")


@pytest.mark.parametrize("content", [b"x", b"", b"PK\x03\x04", b"\x80\x02c", bytes(range(256))])
def test_a_checkpoint_that_is_none_is_refused_without_advice_to_trust_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "none.ckpt").write_bytes(content)
    with pytest.raises(InputError, match=r"none\.ckpt is damaged or no checkpoint") as caught:
        newest(tmp_path / "none.ckpt")
    assert "weights_only" not in str(caught.value)


def test_the_folder_tells_the_recipe_in_full(tmp_path: Path) -> None:
    _run(tmp_path)
    assert recipes.load(tmp_path / "recipe.yaml") == recipe(**LONG)
