"""Two processes on the CPU: the same frames, the same scores, and for a plain system the same weights as one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from dial import Forged, recipe
from safetensors.torch import load_file

from wholescene.structures import Frame
from wholescene.systems import create
from wholescene.training.evaluate import evaluate
from wholescene.training.run import train

FRAMES, EPOCHS = 5, 3


class Noting(Forged):
    """Writes down which frames this process asked for."""

    def __init__(self, count: int, file: Path) -> None:
        super().__init__(count)
        self.file = file

    def __getitem__(self, index: int) -> Frame:
        with self.file.open("a") as file:
            file.write(f"{index}\n")
        return super().__getitem__(index)


def _recipe(processes: int, **more: Any) -> Any:
    trainer = {"accelerator": "cpu", "devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    fields = {"system__fields": {"plain": True}, "data__augment__jitter": 0.0, "data__augment__mirror": 0.0}
    return recipe(budget__epochs=float(EPOCHS), trainer=trainer, checkpoint_every=2, **fields, **more)


def in_one_of_two(out: Path) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    rank = os.environ["RANK"]
    made = train(_recipe(2), out / "run", datasets={"train": Noting(FRAMES, out / f"drawn-{rank}"), "val": Forged(5, 100)})
    torch.manual_seed(0)
    fresh = evaluate(create("dial", recipe().system.config()), Forged(5, 100))
    (out / f"scores-{rank}").write_text(json.dumps([fresh.as_dict()["scores"], made.evaluation.as_dict()["scores"]]))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from test_distributed import in_one_of_two, Path; in_one_of_two(Path({str(out)!r}))"
    )
    shared = {
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "two", "TORCHELASTIC_USE_AGENT_STORE": "False",
    }  # fmt: skip
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", script], env={**shared, "RANK": r, "LOCAL_RANK": r}, **pipes) for r in "01"]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(_recipe(1), tmp_path_factory.mktemp("one"), datasets={"train": Forged(FRAMES), "val": Forged(5, 100)})


def test_five_frames_are_each_drawn_once_an_epoch_over_two_processes(two: Path) -> None:
    drawn = [[int(line) for line in (two / f"drawn-{rank}").read_text().split()] for rank in "01"]
    assert len(drawn[0]) == len(drawn[1]) == 8  # 15 frames, and one of weight 0 so that both take part in the last step
    assert sorted(drawn[0] + drawn[1][:7]) == sorted(list(range(FRAMES)) * EPOCHS)


def test_two_processes_score_the_same_weights_as_one_does(two: Path) -> None:
    torch.manual_seed(0)
    alone = evaluate(create("dial", recipe().system.config()), Forged(5, 100)).as_dict()["scores"]
    for rank in "01":
        assert json.loads((two / f"scores-{rank}").read_text())[0] == json.loads(json.dumps(alone))


def test_the_scores_of_the_run_are_those_of_its_exported_weights_in_one_process(two: Path) -> None:
    system = create("dial", _recipe(1).system.config())
    system.load_state_dict(load_file(two / "run/final.safetensors"))
    alone = json.loads(json.dumps(evaluate(system, Forged(5, 100)).as_dict()["scores"]))
    assert [json.loads((two / f"scores-{rank}").read_text())[1] for rank in "01"] == [alone, alone]


def test_two_processes_train_a_plain_system_to_the_weights_of_one(two: Path, one: Any) -> None:
    alone, together = load_file(one.final), load_file(two / "run/final.safetensors")
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, atol=2e-6, rtol=1e-5)
