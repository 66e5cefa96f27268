"""The command line `wholescene`: what its commands are, and how each ends.

Exit codes: 0 done; 1 part of a batch failed and the rest was done (or `doctor` found something to mend); 2 a user's error, told in one
sentence on standard error; 130 interrupted. Torch is imported by the commands that need it, never for `--help`.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Group, Parameter

from wholescene import __version__
from wholescene.commands import attention, checking, demo, growth, predicting, scenes, tables, training
from wholescene.errors import WholesceneError

# how torch says it, on an accelerator and on a processor, and of sizes beyond any memory
_NO_MEMORY = ("out of memory", "can't allocate memory", "Storage size calculation overflowed")

_PICTURES = Group("Pictures to scenes", sort_key=1)
_EXPERIMENTS = Group("Experiments", sort_key=2)
_WHAT = Group("What there is", sort_key=3)

app = App(
    name="wholescene",
    version=__version__,
    help="One picture in, the whole 3D scene out: every voxel before the camera labelled, seen and hidden.\n\nTry: wholescene demo",
    help_format="markdown",
    suppress_keyboard_interrupt=False,
    group_commands=Group("Options", sort_key=9),
    default_parameter=Parameter(negative=()),  # no --empty-pictures and the like
)
app.command(demo.demo, group=_PICTURES)
app.command(predicting.predict, group=_PICTURES)
app.command(predicting.overlay, group=_PICTURES)
app.command(growth.growth, group=_PICTURES)
app.command(attention.attention, group=_PICTURES)
app.command(scenes.view, group=_PICTURES)
app.command(scenes.export, group=_PICTURES)
app.command(training.train, group=_EXPERIMENTS, usage="Usage: wholescene train [RECIPE] [--FIELD VALUE ...] [OPTIONS]")
app.command(training.evaluate, group=_EXPERIMENTS)
app.command(training.study, group=_EXPERIMENTS)
app.command(training.submit, group=_EXPERIMENTS)
app.command(tables.systems, group=_WHAT)
app.command(tables.weights, group=_WHAT)
app.command(tables.info, group=_WHAT)
app.command(tables.convert, group=_WHAT)
app.command(checking.doctor, group=_WHAT)
data = App(name="data", help="Look after datasets: data check.", group=_EXPERIMENTS, group_commands="Commands")
data.command(checking.check)
app.command(data)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after `wholescene`; None: those of this process.

    Returns:
        The exit code.
    """
    # Waiting threads that spin (GNU OpenMP's default) steal the cores that others need: 77 s against 21 s for one picture beside another job.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a file name that is not UTF-8, or a terminal that is not, must not end a command
    with warnings.catch_warnings():
        _tell_warnings_in_a_line()
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(words: list[str]) -> int:
    try:
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _refuse(f"{_sentence(error)} (see `{' '.join(['wholescene', *(error.command_chain or ())])} --help`)")
    except WholesceneError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        # The reader of our output is gone (`| head`). Standard output is pointed elsewhere so that Python's own flush at exit stays quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "wholescene":
            raise
        return _refuse(f"the package {error.name} is needed and not installed here; `wholescene doctor` says what to mend")
    except OSError as error:
        return _refuse(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(said in str(error) for said in _NO_MEMORY):
            raise
        return _refuse("not enough memory; take a smaller picture, grid or system (`wholescene info` says what each needs)")
    except KeyboardInterrupt as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return 130


def _tell_warnings_in_a_line() -> None:
    """Our own warnings as `warning: sentence`; those of libraries are for programmers and stay out of a user's way."""
    warnings.filterwarnings("ignore", module=r"(torch|lightning|torchmetrics|transformers)\b")

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)

    warnings.showwarning = show


def _refuse(sentence: str) -> int:
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def _sentence(error: CycloptsError) -> str:
    said = " ".join(str(error).split())
    said = said if said.endswith("...") else said.removesuffix(".")
    return said[:1].lower() + said[1:]


if __name__ == "__main__":
    sys.exit(main())
