"""NDC-Scene's released names (Jiawei-Yao0812/NDCScene, one file a dataset) and ours."""

from __future__ import annotations

from collections.abc import Iterator

from wholescene.checkpoints.monoscene import process_rules
from wholescene.checkpoints.table import NameTable, Rule

_DECODER, _VOLUME, _HEAD = "half_2d.encoder.decoder", "half_3d.volume_net", "half_3d.head"
_UPSAMPLE = {
    "deconv_3d": "volume_up", "net_3d.0": "volume_norm", "deconv_2d": "plane_up", "conv_2d": "skip", "net_2d_1.0": "mix_norm", "net_2d_1.2": "mix",
    "net_2d_2.0": "plane_norm",
}  # fmt: skip


def _picture_rules() -> Iterator[Rule]:
    trunk, decoder = "net_rgb.encoder.original_model", "net_rgb.decoder"
    yield Rule(f"{trunk}.bn2.{{rest}}", None, "the trunk's last norm: the decoder reads the raw head convolution")
    yield Rule(f"{trunk}.{{rest}}", "half_2d.encoder.trunk.{rest}")
    yield Rule(f"{decoder}.pr_1.{{rest}}", f"{_DECODER}.entry.{{rest}}")
    for index in range(3):
        deepening = f"{_DECODER}.deepen.{index}"
        yield Rule(f"{decoder}.up_{index + 1}.net.0.{{rest}}", f"{deepening}.conv.{{rest}}")
        yield Rule(f"{decoder}.up_{index + 1}.net.1.{{rest}}", f"{deepening}.norm.{{rest}}")
        yield Rule(f"{decoder}.bl_{index + 1}.{{rest}}", f"{deepening}.block.{{rest}}")
    yield Rule(f"{decoder}.up_6.net_2d_2.{{rest}}", None, "norms the map that leaves the last step, which nothing reads")
    for index in range(3):
        for theirs, ours in list(_UPSAMPLE.items())[: len(_UPSAMPLE) - (index == 2)]:
            yield Rule(f"{decoder}.up_{index + 4}.{theirs}.{{rest}}", f"{_DECODER}.up.{index}.{ours}.{{rest}}")
    for index in range(2):
        yield Rule(f"{decoder}.bl_{index + 4}.main.{{rest}}", f"{_DECODER}.dilate.{index}.{{rest}}")
    for index in range(4):
        yield Rule(f"{decoder}.lt_{index + 4}.{{rest}}", f"half_2d.lift.narrow.{index}.{{rest}}")
    yield Rule("project.conv.0.{rest}", "half_2d.lift.conv.{rest}")
    yield Rule("project.conv.1.{rest}", "half_2d.lift.norm.{rest}")


def _volume_rules(downs: tuple[str, str], ups: tuple[str, ...], head: str, ddr: bool) -> Iterator[Rule]:
    net, prior, middle = "net_3d_decoder", "net_3d_decoder.CP_mega_voxels", f"{_VOLUME}.middle"
    for index, down in enumerate(downs):
        theirs, ours = f"{net}.{down}", f"{_VOLUME}.down.{index}"
        yield Rule(f"{theirs}.0.main.{{rest}}", f"{ours}.halve.{{rest}}")
        yield from process_rules(f"{theirs}.1", f"{ours}.process") if ddr else [Rule(f"{theirs}.1.{{rest}}", f"{ours}.process.{{rest}}")]
    for theirs, ours in zip(ups, (f"{_VOLUME}.up.0", f"{_VOLUME}.up.1", f"{_HEAD}.up.0"), strict=False):
        yield Rule(f"{net}.{theirs}.main.0.{{rest}}", f"{ours}.conv.{{rest}}")
        yield Rule(f"{net}.{theirs}.main.1.{{rest}}", f"{ours}.norm.{{rest}}")
    yield Rule(f"{prior}.aspp.{{layer}}.{{branch}}.{{rest}}", f"{middle}.aspp.branches.{{branch}}.{{layer}}.{{rest}}")
    yield Rule(f"{prior}.p.{{rest}}", f"{middle}.relations.{{rest}}")
    yield Rule(f"{prior}.resize.{{rest}}", f"{middle}.merge.{{rest}}")
    for layer in ("conv0", "conv_classes") if ddr else ("conv_classes",):
        yield Rule(f"{net}.{head}.{layer}.{{rest}}", f"{_HEAD}.segment.{layer}.{{rest}}")
    yield Rule(f"{net}.{head}.{{layer}}.{{branch}}.{{rest}}", f"{_HEAD}.segment.aspp.branches.{{branch}}.{{layer}}.{{rest}}")


TABLES = {
    "semantic-kitti": NameTable(
        "NDC-Scene for SemanticKITTI",
        (*_picture_rules(), *_volume_rules(("process_l1", "process_l2"), ("up_12_l1", "up_13_l2", "up_l1_lfull"), "ssc_head", ddr=False)),
    ),
    "nyuv2": NameTable(
        "NDC-Scene for NYUv2",
        (*_picture_rules(), *_volume_rules(("process_1_4", "process_1_8"), ("up_1_8_1_4", "up_1_16_1_8"), "ssc_head_1_4", ddr=True)),
    ),
}
