"""The two halves of a system, and their exchange (component interchange: GA-MonoSSC, supplement B.1): picture to lifted volume, that to logits.

For whoever writes a system:

- The 2D half is a `Half2D` (Batch -> Lifted, rooms `encoder` and `lift`), the 3D half a `Half3D` (Lifted, Batch -> Completed, rooms `volume_net`
  and `head`). Each is built from its own system's config alone, states `width` and `factor` (set in `__init__`), what it gives or reads beside
  the volume, which raw inputs it needs, and has `losses(prediction, batch)` with the terms that belong to it and no others.
- The system names them: `Lift = MyLift; Completion = MyCompletion`. Then `System` builds `half_2d` and `half_3d`, runs them (`joints`), merges
  their losses and their needs; nothing of that is to be written. A system that does more between its halves overrides `joints` and `losses`.
- A user exchanges a half by one field: `MonoSceneConfig.preset(..., lift=HalfChoice("iso"))`, in a recipe `lift: {system: iso}`. The other
  system's preset then takes over what belongs to the host (`SystemConfig`'s own fields: labels, grid, preparation, class weights, ...), and its
  fields `features` and `lift_factor` (else say so in your config's `joint_fields`) are set to the width and factor of the half it meets.
  What the choice's `fields` say comes last.
- A pair that cannot work is refused here, when it is built. A system without `Lift` or `Completion` cannot take part, and says so.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.structures import Batch, Prediction
from wholescene.systems import preset, system_class, with_fields
from wholescene.systems.config import HalfChoice, SystemConfig

if TYPE_CHECKING:
    from wholescene.systems.base import System

_CHOICES = ("lift", "completion")


class Half2D(nn.Module):
    """Encoder and lift: Batch -> Lifted.

    Attributes:
        width: channels of the lifted volume.
        factor: the lifted grid is the batch's this many times coarser.
        gives: the fields of `Lifted` that it fills beside volume and grid, by their names there; entries of `extras` as "extras.NAME".
        shared: entries of `Lifted.extras` that are the same for all frames.
        needs: raw inputs beside the picture: "depth", "right", "past", "occupancy", "points", "proposals".
    """

    width: int
    factor: int
    gives: ClassVar[frozenset[str]] = frozenset()
    shared: ClassVar[frozenset[str]] = frozenset()

    @property
    def needs(self) -> frozenset[str]:
        """None beside the picture."""
        return frozenset()

    @property
    def supervision(self) -> frozenset[str]:
        """Raw inputs that only its losses want, where the data has them; none here."""
        return frozenset()

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The terms that belong to this half; none here."""
        return {}


class Half3D(nn.Module):
    """Volume net and head: (Lifted, Batch) -> Completed.

    Attributes:
        width: channels of the volume it reads.
        factor: it reads a grid that is the batch's this many times coarser.
        reads: what it wants of `Lifted` beside volume and grid, named as in `Half2D.gives`.
    """

    width: int
    factor: int
    reads: ClassVar[frozenset[str]] = frozenset()

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The terms that belong to this half; none here."""
        return {}


def build_halves(system: type[System], config: SystemConfig) -> tuple[Half2D, Half3D]:
    """Both halves of a system, its own or those that its config chooses.

    Raises:
        InputError: a choice that is no system, a system whose half does not stand alone, or two halves that do not fit.
    """
    if config.lift is None:
        half_2d: Half2D = _class_of("lift", system)(config)
        half_3d = _built("completion", system, config, half_2d)
    elif config.completion is None:
        half_3d = _class_of("completion", system)(config)
        half_2d = _built("lift", system, config, half_3d)
    else:
        half_2d = _built("lift", system, config, None)
        half_3d = _built("completion", system, config, half_2d)
    _check_pair(half_2d, half_3d, _name_of("lift", system, config), _name_of("completion", system, config))
    return half_2d, half_3d


def said_halves(name: str, config: SystemConfig) -> str:
    """A system's name, and whose halves stand in for its own: "monoscene with the 2D half of iso"."""
    chosen = [f"the {half} half of {choice.system}" for half, choice in (("2D", config.lift), ("3D", config.completion)) if choice is not None]
    return f"{name} with {' and '.join(chosen)}" if chosen else name


def refuse_choices(system: type[System], config: SystemConfig) -> None:
    """Stop where a half is chosen for a system that cannot exchange it.

    Raises:
        InputError: naming the field.
    """
    for kind in _CHOICES:
        if getattr(config, kind) is not None:
            _class_of(kind, system)


def merge_losses(*terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms of both halves.

    Raises:
        InputError: two terms of one name, of which one would be lost.
    """
    merged: dict[str, Tensor] = {}
    for own in terms:
        twice = sorted(merged.keys() & own.keys())
        if twice:
            raise InputError(f"both halves have a loss term {twice[0]}; rename one, or choose another half")
        merged |= own
    return merged


def check_grid(batch: Batch, shape: tuple[int, int, int]) -> None:
    """Refuse a batch on a grid of another shape than the one that a half was built for.

    Raises:
        InputError: it is.
    """
    found = batch.grids[0].shape
    if found != shape:
        raise InputError(
            f"this system was built for a grid of {shape} voxels along its array axes; found {found}; set the grid in its config, or leave out "
            "--grid, which is written forward, left, up and keeps the weights' axes"
        )


def target_of(batch: Batch) -> Tensor:
    """(B, X, Y, Z) uint8 labels of the grid itself.

    Raises:
        InputError: the batch has none.
    """
    if 1 not in batch.targets:
        raise InputError(f"frames {', '.join(batch.names)} have no target labels, so there is nothing to compute losses with")
    return batch.targets[1]


def answer_and_target(prediction: Prediction, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (B, K, X, Y, Z) and target labels (B, X, Y, Z).

    Raises:
        InputError: one of the two is missing.
    """
    target = target_of(batch)
    if prediction.logits is None:
        raise InputError("a prediction without logits has nothing to compare with the target; give that of a whole system")
    return prediction.logits, target


def _built(kind: str, system: type[System], config: SystemConfig, meets: Half2D | Half3D | None) -> Any:
    """The half of that kind, of the system itself or of the chosen one."""
    choice: HalfChoice | None = getattr(config, kind)
    if choice is None:
        return _class_of(kind, system)(config)
    return _class_of(kind, system_class(choice.system))(_adapted(choice, config, meets))


def _adapted(choice: HalfChoice, host: SystemConfig, meets: Half2D | Half3D | None) -> SystemConfig:
    """The chosen system's config on the host's grid, labels and pictures, as wide as the half that it meets.

    Raises:
        InputError: that half's grid is not equally coarse along all axes.
    """
    if meets is not None and not isinstance(meets.factor, int):
        raise InputError(
            f"the half that {choice.system} meets has a grid {meets.factor} times coarser along the axes; expected one number for all of them "
            "where another system stands in (of symphonies: set height_factor to 1)"
        )
    config = preset(choice.system, choice.conventions, choice.size, choice.setting)
    shared = {f.name: getattr(host, f.name) for f in fields(SystemConfig) if f.name not in _CHOICES}
    if meets is not None:
        known = {f.name for f in fields(config)}
        shared |= {n: value for n, value in zip(config.joint_fields, (meets.width, meets.factor), strict=True) if n in known}
    return with_fields(replace(config, **shared), choice.fields, choice.system)


def _class_of(kind: str, system: type[System]) -> Any:
    found = system.Lift if kind == "lift" else system.Completion
    if found is None:
        half = "2D" if kind == "lift" else "3D"
        raise InputError(f"the {half} half of {system.name} does not stand alone and cannot be exchanged; leave out the field {kind}")
    return found


def _name_of(kind: str, system: type[System], config: SystemConfig) -> str:
    choice: HalfChoice | None = getattr(config, kind)
    return system.name if choice is None else choice.system


def _check_pair(half_2d: Half2D, half_3d: Half3D, lift: str, completion: str) -> None:
    missing = sorted(half_3d.reads - half_2d.gives)
    if missing:
        given = ", ".join(sorted(half_2d.gives)) or "nothing"
        raise InputError(
            f"the 3D half of {completion} reads {', '.join(missing)} beside the volume, and the 2D half of {lift} gives {given}; choose another lift"
        )
    if (half_2d.width, half_2d.factor) != (half_3d.width, half_3d.factor):
        raise InputError(
            f"the 2D half of {lift} lifts {half_2d.width} channels to a {half_2d.factor} times coarser grid; the 3D half of {completion} reads "
            f"{half_3d.width} channels on a {half_3d.factor} times coarser one; make width and factor alike, or choose another half"
        )
