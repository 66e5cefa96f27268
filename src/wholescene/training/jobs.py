"""Several small trainings side by side on one machine, each on one core: small models leave most cores of a machine idle, or most of a GPU."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import torch

from wholescene.errors import InputError
from wholescene.recipes import Recipe
from wholescene.training.run import Datasets, Say, Trained, train

Job = tuple[Recipe, Path]

_frames: dict[Path, Datasets | None] = {}  # by folder of a run; a forked process sees what its parent made


def side_by_side(
    todo: Sequence[Job], datasets: Callable[[Recipe], Datasets | None], at_once: int, say: Say, run: Callable[..., Trained] = train
) -> Iterator[tuple[Recipe, Trained]]:
    """Train, so many runs at a time, and give each as it ends.

    All frames are made first, and the processes that train are forked from this one, so that they hold them once. Each computes with one
    thread: a forked process must not start OpenMP's threads again.

    Args:
        todo: recipes and the folders of their runs.
        datasets: of a recipe; None: the run opens its own.
        at_once: processes, from 2.
        say: takes lines to print.
        run: trains one.

    Raises:
        InputError: this system does not fork. What a run raises ends no other one: the first such error is raised when all are done.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise InputError("this operating system does not fork processes, so a study's runs cannot share their frames; leave --jobs out")
    _frames.update({folder: datasets(recipe) for recipe, folder in todo})
    failed: list[BaseException] = []
    pool = ProcessPoolExecutor(at_once, multiprocessing.get_context("fork"), _start)
    try:
        waiting: dict[Future[Trained], Recipe] = {pool.submit(_train, run, recipe, folder): recipe for recipe, folder in todo}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                recipe = waiting.pop(future)
                error = future.exception()
                if error is None:
                    say(f"{recipe.name}, seed {recipe.seed}: trained, {len(waiting)} to go")
                    yield recipe, future.result()
                else:
                    say(f"{recipe.name}, seed {recipe.seed}: failed ({error})")
                    failed.append(error)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        _frames.clear()
    if failed:
        raise failed[0]


def _start() -> None:
    torch.set_num_threads(1)


def _train(run: Callable[..., Trained], recipe: Recipe, folder: Path) -> Trained:
    return run(recipe, folder, resume=True, datasets=_frames[folder])
