"""Released files to systems and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wholescene.checkpoints import cgformer, iso, lmscnet, monoscene, native, ndcscene, scanssc, symphonies, voxformer
from wholescene.checkpoints.reading import ForeignCheckpoint, read_foreign, strip_wrappers
from wholescene.checkpoints.table import Converted, NameTable
from wholescene.errors import InputError, unknown_name
from wholescene.files import writing
from wholescene.systems import config_class, create
from wholescene.systems.base import System

# system -> setting -> table of its released names
TABLES = {
    "cgformer": cgformer.TABLES,
    "iso": iso.TABLES,
    "lmscnet": lmscnet.TABLES,
    "monoscene": monoscene.TABLES,
    "ndc-scene": ndcscene.TABLES,
    "scanssc": scanssc.TABLES,
    "symphonies": symphonies.TABLES,
    "voxformer": voxformer.TABLES,
}

# what parts of systems start from, as its authors wrote it
PARTS = (symphonies.MASKDINO, iso.METRIC_DEPTH)

# what a released file itself says of its system's config, by its names
FIELDS = {"iso": iso.fields_of}


@dataclass(frozen=True)
class Conversion:
    """A released file as a system.

    Attributes:
        system: with the released weights, conventions `exact`.
        converted: tensors by our names, the dead ones, the released order.
        prefix: of the wrapper that was stripped from every released name.
        notes: what a user should be told, in sentences.
    """

    system: System
    converted: Converted
    prefix: str
    notes: list[str]


def table_of(system: str, setting: str) -> NameTable:
    """The table of a system's released names.

    Raises:
        InputError: an unknown system or setting, with the nearest.
    """
    if system not in TABLES:
        raise unknown_name("system with released weights", system, TABLES)
    if setting not in TABLES[system]:
        raise unknown_name(f"setting of {system}'s released weights", setting, TABLES[system])
    return TABLES[system][setting]


def usual_setting(system: str) -> str:
    """What released weights are taken to be for where nobody says it: SemanticKITTI.

    Raises:
        InputError: an unknown system, or one whose authors released none for it.
    """
    if system not in TABLES:
        raise unknown_name("system with released weights", system, TABLES)
    if "semantic-kitti" not in TABLES[system]:
        raise InputError(f"which dataset are these weights of {system} for? give --setting: {' or '.join(sorted(TABLES[system]))}")
    return "semantic-kitti"


def convert(path: str | Path, system: str, setting: str = "semantic-kitti") -> Conversion:
    """A system from the file that its authors released.

    Args:
        path: any file that `read_foreign` reads.
        system: a name from the table of systems.
        setting: the dataset that the weights are for.

    Raises:
        InputError: as `read_foreign` and `NameTable.convert`; nothing is loaded leniently.
    """
    table = table_of(system, setting)
    foreign = read_foreign(path)
    told = FIELDS[system](foreign.state) if system in FIELDS else {}
    with torch.device("meta"):
        model = create(system, config_class(system).preset("exact", "full", setting=setting, **told))  # type: ignore[attr-defined]
    state, stripped = _unwrapped(foreign, table, model)
    converted = table.convert(state, model.state_dict(), str(path))
    native.fill(model, converted.live, str(path))
    notes = [f"{len(converted.live)} tensors taken, {len(converted.dead)} kept aside that no output depends on"]
    notes += [f"the wrapper's prefix {stripped!r} was stripped"] if stripped else []
    return Conversion(model.eval(), converted, stripped, notes + foreign.notes)


def part_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> Mapping[str, Tensor]:
    """The state of a part of a system from a file that others wrote for it, under our names; any other state as it is.

    Args:
        state: of the file.
        expected: of the part, for names and shapes.
        where: the file, for messages.

    Raises:
        InputError: the file is one of a known format and does not fit the part.
    """
    for table in PARTS:
        if any(ours != name and ours in expected for name in state if (ours := table.ours(name)) is not None):
            return table.convert(state, expected, where).live
    return state


def _unwrapped(foreign: ForeignCheckpoint, table: NameTable, model: System) -> tuple[dict[str, Tensor], str]:
    known = [released for name in model.state_dict() if (released := table.released(name)) is not None]
    prefix = strip_wrappers(foreign.state, known)
    return {n.removeprefix(prefix): t for n, t in foreign.state.items()}, prefix


def convert_file(path: str | Path, out: str | Path, system: str, setting: str = "semantic-kitti", card: dict[str, str] | None = None) -> list[str]:
    """Convert a released file into one of ours.

    Args:
        path, system, setting: as `convert`.
        out: the file to write.
        card: what the weights are.

    Returns:
        Sentences on what was done.
    """
    conversion = convert(path, system, setting)
    about = {"setting": setting, "prefix": conversion.prefix}
    native.save(out, conversion.system, card=card or {}, converted=conversion.converted, released=about)
    return conversion.notes


def restore(path: str | Path) -> dict[str, Tensor]:
    """The released state dict, with its dead tensors and in its order, from one of our files that was converted; or without the dead ones from
    one that was trained here.

    Raises:
        InputError: as `native.read`; or a system without released names.
    """
    held = native.read(path)
    setting = held.released.get("setting")
    if not isinstance(setting, str):
        known = TABLES.get(held.system, {})
        setting = next((s for s in known if all(known[s].released(n) is not None for n in held.state)), None)
    if setting is None:
        raise InputError(f"{path}: the released format of {held.system} has no names for this state; only size `full` can be given back")
    state = table_of(held.system, setting).restore(held.state, held.dead, held.released.get("order", []))
    return {str(held.released.get("prefix", "")) + name: tensor for name, tensor in state.items()}


def restore_file(path: str | Path, out: str | Path) -> int:
    """Write the released form of one of our files: what torch.save makes of {"state_dict": ...}.

    Returns:
        The number of tensors.
    """
    state = restore(path)
    with writing(out) as temporary:
        torch.save({"state_dict": state}, temporary)
    return len(state)
