"""Our own weights files: safetensors, with everything that builds the system beside the tensors as JSON.

Metadata entry `wholescene`: format version, system, config, label set, card, and for converted weights which released format they came from.
Dead tensors of a released file travel under `dead/`, so that the released file can be written again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wholescene.checkpoints.reading import sniff
from wholescene.checkpoints.table import Converted, refuse_misfit, said_shapes
from wholescene.configuring import from_plain, to_plain
from wholescene.errors import InputError
from wholescene.files import writing
from wholescene.systems import config_class, create
from wholescene.systems.base import System

FORMAT = 1
_DEAD = "dead/"
_MOST_HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class NativeCheckpoint:
    """The content of one of our files.

    Attributes:
        path: the file.
        system: name in the table of systems.
        config: plain types.
        labels: class names, empty first.
        card: what the weights are.
        state: our name -> tensor as stored.
        dead: released name -> tensor.
        released: for converted weights: `setting` of the released format, `prefix` of its wrapper and `order` of its names.
    """

    path: Path
    system: str
    config: dict[str, Any]
    labels: list[str]
    card: dict[str, Any]
    state: dict[str, Tensor]
    dead: dict[str, Tensor] = field(default_factory=dict)
    released: dict[str, Any] = field(default_factory=dict)


def save(
    path: str | Path,
    system: System,
    *,
    half: bool = False,
    card: Mapping[str, Any] | None = None,
    converted: Converted | None = None,
    released: Mapping[str, Any] | None = None,
) -> None:
    """Write a system whole or not at all.

    Args:
        path: the file, by custom `.safetensors`.
        system: its state and config are written.
        half: weights with two axes or more as float16 (norms and biases stay float32), for half the size and about 3 digits.
        card: what the weights are; the system's own card by default.
        converted: what the system was converted from, so that the released file can be given back.
        released: of a converted one, its `setting` and `prefix`.

    Raises:
        InputError: the file cannot be written.
    """
    about = {
        "format": FORMAT,
        "system": system.name,
        "config": to_plain(system.config),
        "labels": list(system.config.label_set.names),
        "card": dict(system.card if card is None else card),
    }
    tensors = {name: _stored(tensor, half) for name, tensor in system.state_dict().items()}
    if converted is not None:
        about["released"] = {**(released or {}), "order": list(converted.order)}
        tensors |= {_DEAD + name: _stored(tensor, False) for name, tensor in converted.dead.items()}
    with writing(path) as temporary:
        save_file(tensors, temporary, {"wholescene": json.dumps(about)})


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if half and tensor.dtype == torch.float32 and tensor.dim() >= 2 and float(tensor.abs().max()) <= _MOST_HALF:
        return tensor.half()
    return tensor.clone()  # safetensors refuses tensors that share memory


def read(path: str | Path) -> NativeCheckpoint:
    """Read one of our files; nothing in it is executed.

    Raises:
        InputError: it is missing, damaged, not ours, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a weights file that `train` or `convert` wrote")
    try:
        with safe_open(path, "pt") as file:
            about = _about(path, file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as error:
        sniff(path)
        if "fully covered" in str(error):
            raise InputError(f"{path} ends before its tensors do, after {path.stat().st_size:,} bytes; it was cut off: copy it again") from error
        raise InputError(
            f"{path} is not a weights file of ours ({error}); if it is what authors released, run `wholescene convert` on it first"
        ) from error
    return NativeCheckpoint(
        path,
        about["system"],
        about["config"],
        about["labels"],
        about["card"],
        {n: t for n, t in tensors.items() if not n.startswith(_DEAD)},
        {n.removeprefix(_DEAD): t for n, t in tensors.items() if n.startswith(_DEAD)},
        about.get("released", {}),
    )


def _about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        about = json.loads(metadata["wholescene"])
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is a safetensors file without wholescene's description in it; run `wholescene convert` if it is a released state dict"
        ) from error
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise InputError(f"{path}: its description is damaged (no format number); write the file anew")
    if about["format"] > FORMAT:
        raise InputError(f"{path} has format {about['format']}, this version reads up to {FORMAT}; update wholescene")
    kinds = {"system": str, "config": dict, "labels": list, "card": dict}
    for name, kind in kinds.items():
        if not isinstance(about.get(name), kind):
            raise InputError(f"{path}: its description is damaged ({name} is missing or of the wrong kind); write the file anew")
    if not isinstance(about.get("released", {}), dict) or not isinstance(about.get("released", {}).get("order", []), list):
        raise InputError(f"{path}: its description is damaged (what it was converted from); convert the released file anew")
    return about


def load(path: str | Path) -> System:
    """A system with the weights of one of our files, on the CPU, in eval mode, float32.

    Raises:
        InputError: as `read`; or a config or tensors that do not fit the system, by name.
    """
    held = read(path)
    try:
        config = from_plain(config_class(held.system), held.config, f"{held.path}: config")
        if list(config.label_set.names) != held.labels:
            known = ", ".join(config.label_set.names)
            raise InputError(f"it was trained on the classes {', '.join(map(str, held.labels))}; the label set {config.labels} has {known}")
        with torch.device("meta"):  # no time and memory for numbers that are replaced at once
            system = create(held.system, config)
    except InputError as error:
        raise InputError(f"{held.path}: {str(error).removeprefix(f'{held.path}: ')}") from error
    except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError, AssertionError) as error:  # numbers that no layer can have
        said = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{held.path}: no {held.system} can be built from its config ({said}); write the file anew") from error
    fill(system, held.state, str(held.path))
    system.card = dict(held.card)
    return system.eval()


def fill(system: System, state: Mapping[str, Tensor], where: str) -> None:
    """Put a state into a system, strictly; floats become float32.

    Raises:
        InputError: tensors that are missing, unknown or of another shape, by name.
    """
    expected = system.state_dict()
    refuse_misfit(
        where,
        system.name,
        [n for n in expected if n not in state],
        [n for n in state if n not in expected],
        [said_shapes(n, t, expected[n]) for n, t in state.items() if n in expected and t.shape != expected[n].shape],
    )
    full = {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
    system.load_state_dict(full, strict=True, assign=True)
