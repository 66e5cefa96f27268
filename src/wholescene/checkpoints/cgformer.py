"""CGFormer's released names (pkqbajng/CGFormer) and ours: the picture's half, which ScanSSC shares, and both datasets' tables."""

from __future__ import annotations

from collections.abc import Iterator

from wholescene.checkpoints.cgformer_completion import completion_rules
from wholescene.checkpoints.table import NameTable, Rule

_ENCODER, _DEPTH, _LIFT = "half_2d.encoder", "half_2d.depth_net", "half_2d.lift"
_CONSTANT = "a constant, computed from the camera and the grid"

# mmcls numbers stages of one stride together: layer -> blocks of each of our stages
_STAGES = {1: ((0, 4),), 2: ((1, 7),), 3: ((2, 7),), 4: ((3, 10), (4, 10)), 5: ((5, 13), (6, 4))}
_EXPANDED = {
    "expand_conv.conv": "conv_pw", "expand_conv.bn": "bn1", "depthwise_conv.conv": "conv_dw", "depthwise_conv.bn": "bn2",
    "se.conv1.conv": "se.conv_reduce", "se.conv2.conv": "se.conv_expand", "linear_conv.conv": "conv_pwl", "linear_conv.bn": "bn3",
}  # fmt: skip
_SEPARABLE = {
    "depthwise_conv.conv": "conv_dw", "depthwise_conv.bn": "bn1", "se.conv1.conv": "se.conv_reduce", "se.conv2.conv": "se.conv_expand",
    "linear_conv.conv": "conv_pw", "linear_conv.bn": "bn2",
}  # fmt: skip
_CHANNEL_ATTENTION = {
    "layer_scale": "scale", "conv1.0.{rest}": "conv1.{rest}", "conv1.2.{rest}": "norm1.{rest}", "conv2.0.{rest}": "reduce.{rest}",
    "conv2.2.{rest}": "expand.{rest}", "conv.0.{rest}": "conv2.{rest}", "conv.2.{rest}": "norm2.{rest}",
}  # fmt: skip
_LAYER = {
    "attentions.0.output_proj.{rest}": "attention.output_proj.{rest}", "attentions.0.deformable_attention.{part}.{rest}": "attention.{part}.{rest}",
    "ffns.0.layers.0.0.{rest}": "feed_forward.widen.{rest}", "ffns.0.layers.1.{rest}": "feed_forward.narrow.{rest}",
    "norms.0.{rest}": "norm1.{rest}", "norms.1.{rest}": "norm2.{rest}",
}  # fmt: skip


def lift_rules() -> Iterator[Rule]:
    """Everything up to the lifted volume, of CGFormer and ScanSSC."""
    yield from _encoder_rules()
    yield from _depth_rules()
    for constant in ("img_view_transformer.{rest}", "proposal_layer.{rest}"):
        yield Rule(constant, None, _CONSTANT)
    for name in ("image_grid", "vox_coords", "ref_3d"):
        yield Rule(f"VoxFormer_head.{name}", None, _CONSTANT)
    head = "VoxFormer_head"
    yield Rule(f"{head}.volume_embed.weight", f"{_LIFT}.embedding")
    yield Rule(f"{head}.cross_transformer.level_embeds", f"{_LIFT}.level_embedding")
    yield Rule(f"{head}.cross_transformer.cams_embeds", f"{_LIFT}.camera_embedding")
    yield Rule(f"{head}.mlp_prior.{{rest}}", f"{_LIFT}.prior.{{rest}}")
    for theirs, ours in _LAYER.items():
        yield Rule(f"{head}.cross_transformer.encoder.layers.{{layer}}.{theirs}", f"{_LIFT}.layers.{{layer}}.{ours}")


def _encoder_rules() -> Iterator[Rule]:
    trunk = f"{_ENCODER}.trunk"
    yield Rule("img_backbone.layers.0.conv.{rest}", f"{trunk}.conv_stem.{{rest}}")
    yield Rule("img_backbone.layers.0.bn.{rest}", f"{trunk}.bn1.{{rest}}")
    yield Rule("img_backbone.layers.6.conv.{rest}", f"{trunk}.conv_head.{{rest}}")
    yield Rule("img_backbone.layers.6.bn.{rest}", f"{_ENCODER}.head_norm.{{rest}}")
    for layer, stages in _STAGES.items():
        theirs = 0
        for stage, blocks in stages:
            for block in range(blocks):
                for part, own in (_SEPARABLE if stage == 0 else _EXPANDED).items():
                    yield Rule(f"img_backbone.layers.{layer}.{theirs}.{part}.{{rest}}", f"{trunk}.blocks.{stage}.{block}.{own}.{{rest}}")
                theirs += 1
    yield Rule("img_neck.deblocks.{rest}", f"{_ENCODER}.neck.blocks.{{rest}}")


def _depth_rules() -> Iterator[Rule]:
    theirs, mono = "depth_net.depth_net", f"{_DEPTH}.mono"
    yield Rule(f"{theirs}.reduce_conv.{{rest}}", f"{mono}.reduce.{{rest}}")
    yield Rule(f"{theirs}.bn.{{rest}}", f"{mono}.norm.{{rest}}")
    yield Rule(f"{theirs}.context_conv.{{rest}}", f"{mono}.context.{{rest}}")
    for kind in ("depth", "context"):
        for net, layer in (("mlp", "fc1"), ("mlp", "fc2"), ("se", "conv_reduce"), ("se", "conv_expand")):
            yield Rule(f"{theirs}.{kind}_{net}.{layer}.{{rest}}", f"{mono}.{kind}_gate.{layer}.{{rest}}")
    for branch in range(4):
        yield Rule(f"{theirs}.depth_conv.3.aspp{branch + 1}.atrous_conv.{{rest}}", f"{mono}.depth.3.branches.{branch}.0.{{rest}}")
        yield Rule(f"{theirs}.depth_conv.3.aspp{branch + 1}.bn.{{rest}}", f"{mono}.depth.3.branches.{branch}.1.{{rest}}")
    for step in (1, 2):
        yield Rule(f"{theirs}.depth_conv.3.global_avg_pool.{step}.{{rest}}", f"{mono}.depth.3.pooled.{step - 1}.{{rest}}")
    yield Rule(f"{theirs}.depth_conv.{{rest}}", f"{mono}.depth.{{rest}}")
    stereo = "depth_net.stereo_volume_encoder"
    yield Rule(f"{stereo}.stem.{{rest}}", f"{_DEPTH}.stereo.stem.{{rest}}")
    yield from _hourglass_rules(f"{stereo}.Unet.0", f"{_DEPTH}.stereo.unet")
    yield Rule(f"{stereo}.conv_out.{{rest}}", f"{_DEPTH}.stereo.out.{{rest}}")
    theirs, ours = "depth_net.depth_aggregation", f"{_DEPTH}.aggregation"
    for pair in ("mono_stereo", "stereo_mono"):
        yield Rule(f"{theirs}.{pair}_attention.gamma", f"{ours}.{pair}.gamma")
        yield Rule(f"{theirs}.{pair}_attention.neighbor_atttention.rpb", f"{ours}.{pair}.bias")
        yield Rule(f"{theirs}.{pair}_attention.neighbor_atttention.{{rest}}", f"{ours}.{pair}.{{rest}}")
    yield Rule(f"{theirs}.stem.{{rest}}", f"{ours}.stem.{{rest}}")
    yield from _hourglass_rules(f"{theirs}.UNet_3D", f"{ours}.unet")
    for part, own in _CHANNEL_ATTENTION.items():
        yield Rule(f"{theirs}.channel_attention.{part}", f"{ours}.channel_attention.{own}")
    yield Rule(f"{theirs}.out_conv.{{rest}}", f"{ours}.out.{{rest}}")


def _hourglass_rules(theirs: str, ours: str) -> Iterator[Rule]:
    for index in range(1, 5):
        yield Rule(f"{theirs}.conv{index}.0.{{rest}}", f"{ours}.conv{index}.{{rest}}")
    for index in (1, 2):
        yield Rule(f"{theirs}.conv{index + 4}.0.{{rest}}", f"{ours}.up{index}.{{rest}}")
        yield Rule(f"{theirs}.conv{index + 4}.1.{{rest}}", f"{ours}.up{index}_norm.{{rest}}")
        yield Rule(f"{theirs}.redir{index}.{{rest}}", f"{ours}.skip{index}.{{rest}}")


_WHOLE = (*lift_rules(), *completion_rules())
_DEPTH_FILE = (
    *_encoder_rules(), *_depth_rules(), Rule("plugin_head.{rest}", None, "the segmentation head of the stage, which is left behind"),
)  # fmt: skip
TABLES = {
    "semantic-kitti": NameTable("CGFormer for SemanticKITTI", _WHOLE),
    "kitti-360": NameTable("CGFormer for KITTI-360", _WHOLE),
    "pretrained-semantic-kitti": NameTable("CGFormer's depth pre-training for SemanticKITTI", _DEPTH_FILE),
    "pretrained-kitti-360": NameTable("CGFormer's depth pre-training for KITTI-360", _DEPTH_FILE),
}
