"""MonoScene's released names (astra-vision/MonoScene, files monoscene_kitti.ckpt and monoscene_nyu.ckpt) and ours."""

from __future__ import annotations

from collections.abc import Iterator

from wholescene.checkpoints.table import NameTable, Rule

_ENCODER, _VOLUME, _HEAD = "half_2d.encoder", "half_3d.volume_net", "half_3d.head"
_LAYERS = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"}
_UNUSED_SHORTCUT = "built in every residual block, used only where the stride is 2"


def _picture_rules() -> Iterator[Rule]:
    trunk, decoder = "net_rgb.encoder.original_model", "net_rgb.decoder"
    yield Rule(f"{trunk}.bn2.{{rest}}", None, "the trunk's last norm: the decoder reads the raw head convolution")
    yield Rule(f"{trunk}.{{rest}}", f"{_ENCODER}.trunk.{{rest}}")
    yield Rule(f"{decoder}.conv2.{{rest}}", f"{_ENCODER}.decoder.entry.{{rest}}")
    yield Rule(f"{decoder}.resize_output_1_16.{{rest}}", None, "the map at 1/16 is made and never projected")
    yield Rule(f"{decoder}.resize_output_1_{{scale}}.{{rest}}", f"{_ENCODER}.decoder.out.{{scale}}.{{rest}}")
    for index, scale in enumerate((16, 8, 4, 2, 1)):
        for theirs, ours in _LAYERS.items():
            yield Rule(f"{decoder}.up{scale}._net.{theirs}.{{rest}}", f"{_ENCODER}.decoder.up.{index}.{ours}.{{rest}}")


def process_rules(theirs: str, ours: str) -> Iterator[Rule]:
    """Of a chain of dimensional decomposition residual blocks, with the shortcuts that are built and never used."""
    for shortcut in ("downsample2", "downsample3", "downsample4"):
        yield Rule(f"{theirs}.main.{{block}}.{shortcut}.{{rest}}", None, _UNUSED_SHORTCUT)
    yield Rule(f"{theirs}.main.{{block}}.{{rest}}", f"{ours}.{{block}}.{{rest}}")


def _volume_rules(downs: tuple[str, str], ups: tuple[str, str], doubling: str, head: str) -> Iterator[Rule]:
    net, prior = "net_3d_decoder", "net_3d_decoder.CP_mega_voxels"
    for index, down in enumerate(downs):
        yield from process_rules(f"{net}.{down}.0", f"{_VOLUME}.down.{index}.process")
        yield Rule(f"{net}.{down}.1.main.{{rest}}", f"{_VOLUME}.down.{index}.halve.{{rest}}")
    for theirs, ours in (*((up, f"{_VOLUME}.up.{i}") for i, up in enumerate(ups)), *([(doubling, f"{_HEAD}.up.0")] if doubling else [])):
        yield Rule(f"{net}.{theirs}.main.0.{{rest}}", f"{ours}.conv.{{rest}}")
        yield Rule(f"{net}.{theirs}.main.1.{{rest}}", f"{ours}.norm.{{rest}}")
    yield Rule(f"{prior}.aspp.{{layer}}.{{branch}}.{{rest}}", f"{_VOLUME}.middle.aspp.branches.{{branch}}.{{layer}}.{{rest}}")
    yield Rule(f"{prior}.mega_context.0.{{rest}}", f"{_VOLUME}.middle.mega_context.{{rest}}")
    yield Rule(f"{prior}.context_prior_logits.{{relation}}.0.{{rest}}", f"{_VOLUME}.middle.relations.{{relation}}.{{rest}}")
    yield Rule(f"{prior}.resize.0.{{rest}}", f"{_VOLUME}.middle.merge.{{rest}}")
    yield from process_rules(f"{prior}.resize.1", f"{_VOLUME}.middle.refine")
    for layer in ("conv0", "conv_classes"):
        yield Rule(f"{net}.{head}.{layer}.{{rest}}", f"{_HEAD}.segment.{layer}.{{rest}}")
    yield Rule(f"{net}.{head}.{{layer}}.{{branch}}.{{rest}}", f"{_HEAD}.segment.aspp.branches.{{branch}}.{{layer}}.{{rest}}")


SEMANTIC_KITTI = NameTable(
    "MonoScene for SemanticKITTI",
    (*_picture_rules(), *_volume_rules(("process_l1", "process_l2"), ("up_12_l1", "up_13_l2"), "up_l1_lfull", "ssc_head")),
)
NYUV2 = NameTable(
    "MonoScene for NYUv2",
    (*_picture_rules(), *_volume_rules(("process_1_4", "process_1_8"), ("up_1_8_1_4", "up_1_16_1_8"), "", "ssc_head_1_4")),
)
TABLES = {"semantic-kitti": SEMANTIC_KITTI, "nyuv2": NYUV2}
