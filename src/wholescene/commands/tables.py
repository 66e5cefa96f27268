"""`systems`, `weights`, `info` and `convert`: what there is, and how released weights come in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from wholescene.commands.options import Switch, shown
from wholescene.commands.printing import facts, size_of, table
from wholescene.errors import InputError
from wholescene.weights import WEIGHTS, card


def systems() -> None:
    """List the systems and what they need.

    Try: wholescene systems
    """
    from wholescene.systems import SYSTEMS

    table(("system", "needs", "paper"), [(s.name, s.needs, s.paper) for s in SYSTEMS.values()])


def weights(name: Annotated[str | None, shown("NAME")] = None, /) -> None:
    """List the weights, or tell everything of one.

    Try: wholescene weights monoscene-street-small

    Args:
        name: of one.
    """
    from dataclasses import asdict

    chosen = [card(name)] if name is not None else list(WEIGHTS.values())
    brief = ("system", "setting", "inputs", "published", "measured", "licence", "source")
    for one in chosen:
        print(one.name)
        facts((k.replace("_", " "), v or "-") for k, v in asdict(one).items() if k != "name" and (name is not None or k in brief))


def info(
    system: Annotated[str, shown("SYSTEM")],
    /,
    *,
    conventions: Literal["clean", "exact", "paper"] = "clean",
    size: Literal["full", "small", "tiny"] = "full",
    setting: Annotated[str, shown("NAME", show_default=False)] = "",
) -> None:
    """Say how large a system is, before it runs.

    Parameters and multiply-adds of each part, and the memory to expect for predicting and for training.

    Try: wholescene info monoscene --size small

    Args:
        system: a name from `wholescene systems`.
        conventions: clean (what is right), exact (what released weights need) or paper.
        size: full, small or tiny.
        setting: the dataset that it is set up for; without it, its first.
    """
    from wholescene.info import measure

    found = measure(system, conventions, size, setting)
    rows = [(p.name, f"{p.parameters:,}", f"{p.multiply_adds / 1e9:,.2f}") for p in found.parts]
    total = ("all", f"{found.parameters:,}", f"{found.multiply_adds / 1e9:,.2f}")
    table(("part", "parameters", "multiply-adds (10^9)"), [*rows, total])
    facts(
        [
            ("counted for", found.what),
            ("weights", f"{size_of(4 * found.parameters)} as float32"),
            ("memory to predict", f"about {size_of(found.predicting)} (float32, on an accelerator; a CPU works in slabs and needs less)"),
            ("memory to train", f"about {size_of(found.training)} (batch 1, float32, AdamW)"),
        ]
    )


def convert(
    file: Annotated[Path, shown("FILE")],
    out: Annotated[Path, shown("OUT")],
    /,
    *,
    system: Annotated[str | None, shown("NAME")] = None,
    setting: Annotated[str | None, shown("NAME")] = None,
    weights: Annotated[str | None, shown("NAME")] = None,
    back: Switch = False,
) -> None:
    """Turn released weights into ours, or back.

    Every tensor of the file is accounted for, nothing in it is executed, and nothing is loaded leniently.

    Try: wholescene convert monoscene_kitti.ckpt monoscene-semantic-kitti.safetensors --system monoscene

    Try: wholescene convert monoscene-semantic-kitti.safetensors again.ckpt --back

    Args:
        file: the file as its authors released it; with --back one of ours.
        out: the file to write.
        system: a name from `wholescene systems`.
        setting: the dataset that the weights are for; without it semantic-kitti.
        weights: instead of system and setting, a name from `wholescene weights`.
        back: from ours to the released names and layouts.
    """
    if back:
        from wholescene.checkpoints.converting import restore_file

        print(f"wrote {out}: {restore_file(file, out)} tensors under their released names")
        return
    if system is None and weights is None:
        raise InputError("whose weights are these? give --system NAME (and --setting), or --weights NAME (`wholescene weights` lists them)")
    from wholescene.checkpoints.converting import convert_file, usual_setting

    named = card(weights) if weights is not None else None
    if named is not None:
        system, setting = named.system, named.name.removeprefix(f"{named.system}-")
    else:
        setting = setting or usual_setting(system or "")
    about = named or WEIGHTS.get(f"{system}-{setting}")
    kept = ("name", "trained_on", "licence", "source", "published", "note")
    said = convert_file(file, out, system or "", setting, {k: getattr(about, k) for k in kept} if about is not None else None)
    facts([*(("note", sentence) for sentence in said), ("wrote", out)])
