"""Symphonies' released names (hustvl/Symphonies v1.0, one file a dataset) and ours; and those of the MaskDINO file that training starts from."""

from __future__ import annotations

from collections.abc import Iterator

from wholescene.checkpoints.table import NameTable, Rule

_TRUNK = "half_2d.encoder.trunk"
_HEAD = "model.encoder.model.panoptic_head"
_STRIDE_4 = "the pixel decoder's step to stride 4 is computed and never read"
_FIXED = "a constant that is computed"

_FED = {"norm2": "norm2", "ffn.0": "feed_forward.widen", "ffn.2": "feed_forward.narrow"}
_LAYERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "query_image_cross_defrom_attn": ("instance_image", "attn.", _FED),
    "scene_query_cross_attn": ("scene_instance", "attn.", {}),
    "scene_self_deform_attn": ("scene_self", "attn.attns.0.", _FED),
    "query_scene_cross_deform_attn": ("instance_scene", "attn.attns.0.", {}),
    "query_self_attn": ("instance_self", "attn.", _FED),
}


def _trunk_rules(backbone: str, head: str, ours: str) -> Iterator[Rule]:
    """Backbone and pixel decoder, as MaskDINO in mmdet writes them."""
    decoder = f"{head}.pixel_decoder"
    yield Rule(f"{backbone}.{{rest}}", f"{ours}backbone.{{rest}}")
    for part in ("mask_features", "adapter_1", "layer_1"):
        yield Rule(f"{decoder}.{part}.{{rest}}", None, _STRIDE_4)
    yield Rule(f"{head}.criterion.empty_weight", None, "a weight of MaskDINO's own loss")
    yield Rule(f"{decoder}.input_proj.{{rest}}", f"{ours}pixel_decoder.entries.{{rest}}")
    yield Rule(f"{decoder}.transformer.level_embed", f"{ours}pixel_decoder.level_embedding")
    layer, own = f"{decoder}.transformer.encoder.layers.{{layer}}", f"{ours}pixel_decoder.layers.{{layer}}"
    yield Rule(f"{layer}.self_attn.{{rest}}", f"{own}.attention.{{rest}}")
    parts = {"ffn.layers.0.0": "feed_forward.widen", "ffn.layers.1": "feed_forward.narrow", "norms.0": "norm1", "norms.1": "norm2"}
    for theirs, name in parts.items():
        yield Rule(f"{layer}.{theirs}.{{rest}}", f"{own}.{name}.{{rest}}")


def _attention_rules(theirs: str, ours: str, inner: str, more: dict[str, str]) -> Iterator[Rule]:
    yield Rule(f"{theirs}.{inner}{{rest}}", f"{ours}.attention.{{rest}}")
    for part, name in ({"norm1": "norm1"} | more).items():
        yield Rule(f"{theirs}.{part}.{{rest}}", f"{ours}.{name}.{{rest}}")


def _rules() -> Iterator[Rule]:
    net, head = "half_3d.volume_net", "half_3d.head"
    yield from _trunk_rules("model.encoder.model.backbone", _HEAD, f"{_TRUNK}.")
    yield Rule("model.encoder.query_embed.weight", "half_2d.instances.queries")
    yield Rule("model.encoder.pts_embed.weight", "half_2d.instances.points")
    yield Rule("model.encoder.out_projs.{rest}", "half_2d.encoder.projections.{rest}")
    yield Rule("model.decoder.image_grid", None, _FIXED)
    yield Rule("model.decoder.voxel_grid", None, _FIXED)
    yield from _attention_rules("model.decoder.voxel_proposal.attn", "half_2d.lift.attend", "attn.", _FED)
    for theirs, (ours, inner, more) in _LAYERS.items():
        yield from _attention_rules(f"model.decoder.layers.{{layer}}.{theirs}", f"{net}.layers.{{layer}}.{ours}", inner, more)
    yield Rule("model.decoder.scene_embed.weight", "half_2d.lift.scene")
    yield Rule("model.decoder.scene_pos.embeds.{axis}.weight", "half_2d.positions.tables.{axis}.weight")
    yield Rule("model.decoder.scene_pos.proj.{rest}", "half_2d.positions.project.{rest}")
    for theirs, name in {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2"}.items():
        yield Rule(f"model.decoder.aspp.blks.{{branch}}.{theirs}.{{rest}}", f"{net}.aspp.branches.{{branch}}.{name}.{{rest}}")
    for stage, theirs in enumerate(("0", "1.up_bn")):
        for part, name in {"0": "conv", "1": "norm"}.items():
            yield Rule(f"model.decoder.cls_head.{theirs}.{part}.{{rest}}", f"{head}.up.{stage}.{name}.{{rest}}")
    yield Rule("model.decoder.cls_head.2.{rest}", f"{head}.classify.{{rest}}")


_ALL = tuple(_rules())
TABLES = {
    "semantic-kitti": NameTable("Symphonies for SemanticKITTI", _ALL),
    "kitti-360": NameTable("Symphonies for SSCBench-KITTI-360", _ALL),
}
MASKDINO = NameTable(
    "MaskDINO with ResNet-50 (panoptic, as mmdet writes it)",
    (*_trunk_rules("backbone", "panoptic_head", ""), Rule("panoptic_head.predictor.{rest}", None, "MaskDINO's query decoder")),
)
