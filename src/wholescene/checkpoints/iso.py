"""ISO's released names (hongxiaoy/ISO, iso_nyu.ckpt; files trained on Occ-ScanNet have the same) and ours; and those of the metric depth network
that such a file holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from wholescene.checkpoints.monoscene import NYUV2 as MONOSCENE
from wholescene.checkpoints.table import NameTable, Rule

_BRANCH, _NETWORK = "half_2d.distribution", "half_2d.metric_depth"
_METRIC = {
    "conv2.{rest}": "bottleneck.{rest}",
    "seed_bin_regressor._net.{rest}": "seed_bins.{rest}",
    "seed_projector._net.{rest}": "seed_embedding.{rest}",
    "projectors.{level}._net.{rest}": "projectors.{level}.{rest}",
    "attractors.{level}._net.{rest}": "attractors.{level}.{rest}",
    "conditional_log_binomial.mlp.{rest}": "binomial.{rest}",
}


def _branch_rules() -> Iterator[Rule]:
    """The depth distribution network."""
    theirs = "depthnet_1_1"
    yield Rule(f"{theirs}.reduce_conv.{{layer}}.{{rest}}", f"{_BRANCH}.reduce.{{layer}}.{{rest}}")
    for room in ("mlp", "se"):
        for layer in ("fc1", "fc2") if room == "mlp" else ("conv_reduce", "conv_expand"):
            yield Rule(f"{theirs}.{room}.{layer}.{{rest}}", f"{_BRANCH}.gate.{layer}.{{rest}}")
    for number in (1, 2):
        for layer, ours in (("conv", "conv"), ("norm", "bn")):
            yield Rule(f"{theirs}.depth_conv.{{block}}.{layer}{number}.{{rest}}", f"{_BRANCH}.blocks.{{block}}.{ours}{number}.{{rest}}")
    yield Rule(f"{theirs}.depth_pred.{{rest}}", f"{_BRANCH}.predict.{{rest}}")


def _network_rules(theirs: str, ours: str) -> Iterator[Rule]:
    """Depth Anything's metric depth network; both prefixes end with a dot, or are empty."""
    trunk, head = f"{theirs}core.core.pretrained", f"{theirs}core.core.depth_head"
    yield Rule(f"{trunk}.mask_token", None, "stands for masked patches in pre-training, and no patch of a picture is masked")
    yield Rule(f"{trunk}.{{rest}}", f"{ours}trunk.{{rest}}")
    yield Rule(f"{head}.projects.{{level}}.{{rest}}", f"{ours}decoder.project.{{level}}.{{rest}}")
    yield Rule(f"{head}.resize_layers.{{level}}.{{rest}}", f"{ours}decoder.resize.{{level}}.{{rest}}")
    for level in range(4):
        fusion = f"{head}.scratch.refinenet{level + 1}"
        yield Rule(f"{head}.scratch.layer{level + 1}_rn.{{rest}}", f"{ours}decoder.smooth.{level}.{{rest}}")
        yield Rule(f"{fusion}.out_conv.{{rest}}", f"{ours}decoder.fusion.{level}.out.{{rest}}")
        yield Rule(f"{fusion}.resConfUnit2.{{rest}}", f"{ours}decoder.fusion.{level}.unit.{{rest}}")
        skip = f"{ours}decoder.fusion.{level}.skip_unit.{{rest}}" if level < 3 else None
        yield Rule(f"{fusion}.resConfUnit1.{{rest}}", skip, "" if skip else "the deepest map has nothing to be added to")
    yield Rule(f"{head}.scratch.output_conv1.{{rest}}", f"{ours}narrow.{{rest}}")
    yield Rule(f"{head}.scratch.output_conv2.0.{{rest}}", f"{ours}last.{{rest}}")
    yield Rule(f"{head}.scratch.output_conv2.2.{{rest}}", f"{ours}relative.{{rest}}")
    for room, own in _METRIC.items():
        yield Rule(f"{theirs}{room}", f"{ours}metric.{own}")
    yield Rule(f"{theirs}conditional_log_binomial.log_binomial_transform.{{rest}}", None, "the numbers of the bins, which are counted here")


_RULES = (*MONOSCENE.rules, *_branch_rules(), *_network_rules("net_depth.", f"{_NETWORK}."))
TABLES = {"nyuv2": NameTable("ISO for NYUv2", _RULES), "occscannet": NameTable("ISO for Occ-ScanNet", _RULES)}
METRIC_DEPTH = NameTable("Depth Anything's metric depth network", tuple(_network_rules("", "")))


def fields_of(names: Iterable[str]) -> dict[str, Any]:
    """What a released file says of the configuration: whether it holds the metric depth network."""
    return {} if any("net_depth." in name for name in names) else {"depth_network": ""}
