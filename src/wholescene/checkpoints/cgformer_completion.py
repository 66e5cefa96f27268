"""The released names of the 3D halves of CGFormer and ScanSSC: self-attention, local and mixing networks, planes, head; and ours."""

from __future__ import annotations

from collections.abc import Iterator

from wholescene.checkpoints.table import Rule

_NET, _HEAD, _THEIRS = "half_3d.volume_net", "half_3d.head", "VoxFormer_head"
_LAYER = {
    "attentions.0": "attention", "ffns.0.layers.0.0": "feed_forward.widen", "ffns.0.layers.1": "feed_forward.narrow", "norms.0": "norm1",
    "norms.1": "norm2",
}  # fmt: skip
_BLOCK = {
    "conv1.conv": "conv1", "conv1.bn": "bn1", "conv2.conv": "conv2", "conv2.bn": "bn2", "downsample.conv": "conv_short", "downsample.bn": "bn_short",
}  # fmt: skip
_WINDOW = {
    "norm1": "norm1", "norm2": "norm2", "attn.w_msa": "attn", "ffn.layers.0.0": "mlp.fc1", "ffn.layers.1": "mlp.fc2",
}  # fmt: skip


def completion_rules() -> Iterator[Rule]:
    """CGFormer's whole 3D half."""
    yield from attention_rules()
    theirs = "occ_encoder_backbone"
    yield from pyramid_rules(f"{theirs}.local_aggregator", f"{_NET}.local")
    yield from _plane_rules(f"{theirs}.global_aggregator", f"{_NET}.planes")
    yield Rule(f"{theirs}.combine_coeff.0.{{rest}}", f"{_NET}.fusion.weigh.{{rest}}")
    yield from head_rules()


def attention_rules() -> Iterator[Rule]:
    """Self-attention of all voxels."""
    yield Rule(f"{_THEIRS}.positional_encoding.col_embed.weight", f"{_NET}.attention.seats.tables.0")
    yield Rule(f"{_THEIRS}.positional_encoding.row_embed.weight", f"{_NET}.attention.seats.tables.1")
    for part, ours in _LAYER.items():
        yield Rule(f"{_THEIRS}.self_transformer.encoder.layers.{{layer}}.{part}.{{rest}}", f"{_NET}.attention.layers.{{layer}}.{ours}.{{rest}}")


def pyramid_rules(theirs: str, ours: str) -> Iterator[Rule]:
    """A 3D ResNet with its pyramid."""
    block, own_block = f"{theirs}.local_encoder_backbone.layers.{{stage}}.{{block}}", f"{ours}.trunk.stages.{{stage}}.{{block}}"
    for part, own in _BLOCK.items():
        yield Rule(f"{block}.{part}.{{rest}}", f"{own_block}.{own}.{{rest}}")
    yield from _neck_rules(f"{theirs}.local_encoder_neck", f"{ours}.neck", "gn")


def head_rules() -> Iterator[Rule]:
    """The occupancy head."""
    for index, part in (("0", "conv"), ("1", "norm"), ("3", "classify")):
        yield Rule(f"pts_bbox_head.occ_convs.0.{index}.{{rest}}", f"{_HEAD}.{part}.{{rest}}")


def _neck_rules(theirs: str, ours: str, norm: str) -> Iterator[Rule]:
    for part, own in (("lateral_convs", "lateral"), ("fpn_convs", "smooth")):
        yield Rule(f"{theirs}.{part}.{{level}}.conv.{{rest}}", f"{ours}.{own}.{{level}}.{{rest}}")
        yield Rule(f"{theirs}.{part}.{{level}}.{norm}.{{rest}}", f"{ours}.{own}_norm.{{level}}.{{rest}}")


def _plane_rules(theirs: str, ours: str) -> Iterator[Rule]:
    for plane in ("xy", "yz", "zx"):
        yield Rule(f"{theirs}.tpv_pooler.mlp_{plane}.{{rest}}", f"{ours}.pool.{plane}.mix.{{rest}}")
    swin, own = f"{theirs}.global_encoder_backbone", f"{ours}.swin"
    yield Rule(f"{swin}.patch_embed_lidar.projection.{{rest}}", f"{own}.patch_embed.proj.{{rest}}")
    yield Rule(f"{swin}.patch_embed_lidar.norm.{{rest}}", f"{own}.patch_embed.norm.{{rest}}")
    yield Rule(f"{swin}.stages.{{stage}}.blocks.{{block}}.attn.w_msa.relative_position_index", None, "a constant, computed from the window's size")
    for part, name in _WINDOW.items():
        yield Rule(f"{swin}.stages.{{stage}}.blocks.{{block}}.{part}.{{rest}}", f"{own}.layers.{{stage}}.blocks.{{block}}.{name}.{{rest}}")
    for stage in range(3):  # theirs merges at the end of a stage, ours at the beginning of the next
        yield Rule(f"{swin}.stages.{stage}.downsample.{{rest}}", f"{own}.layers.{stage + 1}.downsample.{{rest}}")
    for tap in (1, 2, 3):
        yield Rule(f"{swin}.norm{tap}.{{rest}}", f"{own}.norms.{tap}.{{rest}}")
    yield from _neck_rules(f"{theirs}.global_encoder_neck", f"{ours}.neck", "bn")
