"""VoxFormer's released names (NVlabs/VoxFormer: one file a stage, VoxFormer-S) and ours; and both stages joined into one system."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wholescene.checkpoints import native
from wholescene.checkpoints.lmscnet import network_rules
from wholescene.checkpoints.table import Converted, NameTable, Rule
from wholescene.errors import InputError
from wholescene.systems import create
from wholescene.systems.voxformer.config import VoxFormerConfig

_LIFT, _NET = "half_2d.lift", "half_3d.volume_net"
_PARTS = {"ffns.0.layers.0.0": "feed_forward.widen", "ffns.0.layers.1": "feed_forward.narrow", "norms.0": "norm1", "norms.1": "norm2"}


def _transformer_rules(theirs: str, ours: str, inner: str) -> Iterator[Rule]:
    """The layers of one transformer; `inner` is where its attention keeps all but the output projection."""
    layer, own = f"pts_bbox_head.{theirs}.encoder.layers.{{layer}}", f"{ours}.layers.{{layer}}"
    yield Rule(f"{layer}.attentions.0.output_proj.{{rest}}", f"{own}.attention.output_proj.{{rest}}")
    yield Rule(f"{layer}.attentions.0.{inner}{{part}}.{{rest}}", f"{own}.attention.{{part}}.{{rest}}")
    for part, name in _PARTS.items():
        yield Rule(f"{layer}.{part}.{{rest}}", f"{own}.{name}.{{rest}}")


def _completion_rules() -> Iterator[Rule]:
    head = "pts_bbox_head"
    yield Rule("img_backbone.layer4.{rest}", None, "the neck reads stride 16, one stage before")
    yield Rule("img_backbone.{rest}", "half_2d.encoder.backbone.{rest}")
    yield Rule("img_neck.lateral_convs.{level}.conv.{rest}", "half_2d.encoder.neck.lateral.{level}.{rest}")
    yield Rule("img_neck.fpn_convs.{level}.conv.{rest}", "half_2d.encoder.neck.smooth.{level}.{rest}")
    yield Rule(f"{head}.bev_embed.weight", f"{_LIFT}.queries")
    yield Rule(f"{head}.mask_embed.weight", f"{_LIFT}.mask_token")
    yield Rule(f"{head}.cross_transformer.level_embeds", f"{_LIFT}.level_embedding")
    yield Rule(f"{head}.cross_transformer.cams_embeds", f"{_LIFT}.camera_embedding")
    yield from _transformer_rules("cross_transformer", _LIFT, "deformable_attention.")
    yield Rule(f"{head}.positional_encoding.col_embed.weight", f"{_NET}.seats.tables.0")
    yield Rule(f"{head}.positional_encoding.row_embed.weight", f"{_NET}.seats.tables.1")
    for name in ("level_embeds", "cams_embeds"):
        yield Rule(f"{head}.self_transformer.{name}", None, "made with the cross transformer's class and never read")
    yield from _transformer_rules("self_transformer", _NET, "")
    yield Rule(f"{head}.header.mlp_head.0.{{rest}}", "half_3d.head.classifier.norm.{rest}")
    yield Rule(f"{head}.header.mlp_head.1.{{rest}}", "half_3d.head.classifier.linear.{rest}")


_PROPOSALS, _COMPLETION = tuple(network_rules("proposer.net", "proposer.head", finest=2)), tuple(_completion_rules())
TABLES = {
    "semantic-kitti": NameTable("both stages of VoxFormer-S for SemanticKITTI", (*_PROPOSALS, *_COMPLETION)),
    "proposals-semantic-kitti": NameTable("VoxFormer's stage 1 (query proposals) for SemanticKITTI", _PROPOSALS),
    "completion-semantic-kitti": NameTable("VoxFormer-S's stage 2 for SemanticKITTI", _COMPLETION),
}


def join(proposals: str | Path, completion: str | Path, out: str | Path, card: dict[str, Any] | None = None) -> None:
    """One weights file of both stages from the two that were converted (or trained) apart.

    Args:
        proposals: our file of stage 1.
        completion: our file of stage 2; its configuration rules.
        out: the file to write.
        card: what the weights are; stage 2's card by default.

    Raises:
        InputError: a file that is not ours, or not of that stage of VoxFormer.
    """
    held = []
    for path, stage in ((proposals, "proposals"), (completion, "completion")):
        found = native.read(path)
        if found.system != "voxformer" or found.config.get("stage") != stage:
            raise InputError(f"{path} holds {found.system}, stage {found.config.get('stage', 'none')}; expected stage {stage} of voxformer")
        held.append(found)
    config = native.load(completion).config
    assert isinstance(config, VoxFormerConfig)
    with torch.device("meta"):
        system = create("voxformer", replace(config, stage="both"))
    state = {**held[0].state, **held[1].state}
    native.fill(system, state, f"{proposals} and {completion}")
    order = [name for one in held for name in one.released.get("order", [])]
    native.save(
        out, system, card=held[1].card if card is None else card,
        converted=Converted(state, {**held[0].dead, **held[1].dead}, tuple(order)), released={"setting": "semantic-kitti"},
    )  # fmt: skip
