"""How large a system is before it runs: parameters, multiply-adds and expected memory, counted on tensors without content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from wholescene.data.collate import collate
from wholescene.ops.counting import MultiplyAdds
from wholescene.preparation import prepare
from wholescene.structures import Batch
from wholescene.systems import create, preset
from wholescene.systems.shapes import Shapes, example_frame

if TYPE_CHECKING:
    from wholescene.systems.base import System
    from wholescene.systems.config import SystemConfig


@dataclass(frozen=True)
class Part:
    """One room of a system.

    Attributes:
        name: of the submodule.
        parameters: numbers that training changes.
        multiply_adds: of one frame's forward pass in its plain form; `ops.counting` says what counts.
    """

    name: str
    parameters: int
    multiply_adds: float


@dataclass(frozen=True)
class Info:
    """What a system takes.

    Attributes:
        parts: its rooms.
        what: the frame that was counted, in words.
        predicting: expected peak bytes of weights and activations for one frame in eval mode, float32, on an accelerator (a CPU works
            through large volumes in slabs and needs less); the interpreter adds its own.
        training: likewise for one training step of one frame, with gradients and AdamW's two moments.
    """

    parts: tuple[Part, ...]
    what: str
    predicting: int
    training: int

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return sum(p.parameters for p in self.parts)

    @property
    def multiply_adds(self) -> float:
        """Of all parts."""
        return sum(p.multiply_adds for p in self.parts)


def measure(system: str, conventions: str = "clean", size: str = "full", setting: str = "") -> Info:
    """Count a system by its name and preset (without a setting: its first); no weights are made and no feature is computed.

    Raises:
        InputError: an unknown name, with the nearest.
    """
    return measure_config(system, preset(system, conventions, size, setting))


def measure_config(system: str, config: SystemConfig) -> Info:
    """As `measure`, for any configuration of a system."""
    with torch.device("meta"):
        model = create(system, config)
    frame = prepare(example_frame(model), config.preparation)
    batch = collate([frame])
    weights = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    trained = sum(p.numel() * p.element_size() for p in model.parameters())
    multiply_adds = _multiply_adds(model, batch)
    parts = tuple(Part(name, sum(p.numel() for p in room.parameters()), multiply_adds[name]) for name, room in rooms(model).items())
    eats = [f"a picture of {frame.main.camera.width} x {frame.main.camera.height}"] if getattr(model, "looks_at_picture", True) else []
    what = f"{' and '.join([*eats, *sorted(model.needs)])}, {' x '.join(map(str, frame.grid.shape))} voxels"
    return Info(parts, what, weights + _predict(model, collate([frame])), weights + 3 * trained + _train(model, collate([frame])))


def rooms(model: nn.Module) -> dict[str, nn.Module]:
    """Encoder, lift, volume net, head, ...: the children of a system, with its two halves opened."""
    found: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        found |= dict(child.named_children()) if name.startswith("half_") else {name: child}
    return found


def _multiply_adds(model: System, batch: Batch) -> dict[str, float]:
    """Of each room, in the plain form: with gradients recorded, so that no shortcut of inference is taken."""
    spent = dict.fromkeys(rooms(model), 0.0)
    counted = MultiplyAdds()
    hooks = []
    for name, room in rooms(model).items():

        def begin(*_: Any, name: str = name) -> None:
            spent[name] -= counted.total

        def end(*_: Any, name: str = name) -> None:
            spent[name] += counted.total

        parts = room.children() if isinstance(room, nn.ModuleDict | nn.ModuleList) else [room]  # lists are never called themselves
        for part in parts:
            hooks += [part.register_forward_pre_hook(begin), part.register_forward_hook(end)]
    model.eval()
    with Shapes(), counted:
        model(batch)
    for hook in hooks:
        hook.remove()
    return spent


def _predict(model: System, batch: Batch) -> int:
    """The peak of bytes that activations take."""
    shapes = Shapes()
    model.eval()
    with torch.no_grad(), shapes:
        model(batch)
    return shapes.peak


def _train(model: System, batch: Batch) -> int:
    """The peak of bytes that activations and what backward makes of them take; cross-entropy stands for the losses."""
    shapes = Shapes()
    model.train()
    with shapes:
        logits = model(batch).logits
        assert logits is not None
        target = torch.zeros(logits.shape[0], *logits.shape[2:], dtype=torch.int64, device="meta")
        torch.nn.functional.cross_entropy(logits.float(), target).backward()
    return shapes.peak
