"""LMSCNet's released names (astra-vision/LMSCNet; VoxFormer's first stage has the same) and ours."""

from __future__ import annotations

from collections.abc import Iterator

from wholescene.checkpoints.table import NameTable, Rule


def network_rules(net: str, head: str, finest: int = 1) -> Iterator[Rule]:
    """The height UNet and its heads.

    Args:
        net: our name of the UNet.
        head: our name of the head at a scale, with `{scale}` in it; without it, of the only head, at `finest`.
        finest: scale at which the network ends; released code then builds two transposed convolutions that nothing uses.
    """
    their_head = "seg_head_1_{scale}" if "{scale}" in head else f"seg_head_1_{finest}"
    for index in range(4):
        first = 1 if index else 0  # the released sequence of a block begins with the pooling
        for layer, place in (("conv1", first), ("conv2", first + 2)):
            yield Rule(f"Encoder_block{index + 1}.{place}.{{rest}}", f"{net}.down.{index}.{layer}.{{rest}}")
    yield Rule("conv_out_scale_1_{scale}.{rest}", f"{net}.out.{{scale}}.{{rest}}")
    for leap in ("8__1_2", "8__1_1", "4__1_1"):
        coarse, fine = leap.split("__1_")
        ours = f"{net}.leap.{coarse}_{fine}.{{rest}}" if int(fine) >= finest else None
        yield Rule(f"deconv_1_{leap}.{{rest}}", ours, "leads to a scale that is never made" if ours is None else "")
    yield Rule("deconv1_{scale}.{rest}", f"{net}.enlarge.{{scale}}.{{rest}}")
    yield Rule("conv1_{scale}.{rest}", f"{net}.join.{{scale}}.{{rest}}")
    for layer in ("conv0", "conv_classes"):
        yield Rule(f"{their_head}.{layer}.{{rest}}", f"{head}.{layer}.{{rest}}")
    yield Rule(f"{their_head}.{{layer}}.{{branch}}.{{rest}}", f"{head}.aspp.branches.{{branch}}.{{layer}}.{{rest}}")


_RULES = tuple(network_rules("half_3d.volume_net", "half_3d.head.{scale}.segment"))
TABLES = {
    "semantic-kitti": NameTable("LMSCNet for SemanticKITTI", _RULES),
    "ss-semantic-kitti": NameTable("LMSCNet-SS for SemanticKITTI", _RULES),
}
