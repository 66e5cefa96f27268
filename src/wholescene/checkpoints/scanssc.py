"""ScanSSC's released names (its authors publish weights for SemanticKITTI and SSCBench-KITTI-360) and ours."""

from __future__ import annotations

from collections.abc import Iterator

from wholescene.checkpoints.cgformer import lift_rules
from wholescene.checkpoints.cgformer_completion import attention_rules, head_rules, pyramid_rules
from wholescene.checkpoints.table import NameTable, Rule

_SCAN = "half_3d.volume_net.scan"
_AXES = ("depth", "height", "width")


def _scan_rules() -> Iterator[Rule]:
    theirs = "VoxFormer_head"
    yield Rule(f"{theirs}.axis_positional_encoding.col_embed.weight", f"{_SCAN}.codes.tables.0")
    yield Rule(f"{theirs}.axis_positional_encoding.row_embed.weight", f"{_SCAN}.codes.tables.1")
    for axis in _AXES:
        block, ours = f"{theirs}.{axis}_block.scanblocklayer", f"{_SCAN}.blocks.{axis}"
        yield Rule(f"{block}.attn.in_proj_{{part}}", f"{ours}.attention.in_proj.{{part}}")
        yield Rule(f"{block}.attn.out_proj.{{rest}}", f"{ours}.attention.out_proj.{{rest}}")
        for part, own in (("norm1", "norm1"), ("norm2", "norm2"), ("linear1", "widen"), ("linear2", "narrow")):
            yield Rule(f"{block}.{part}.{{rest}}", f"{ours}.{own}.{{rest}}")
        yield from pyramid_rules(f"occ_encoder_backbone.{axis}_mixer", f"{_SCAN}.mixers.{axis}")
    yield Rule("occ_encoder_backbone.combine_coeff.0.{rest}", f"{_SCAN}.fusion.weigh.{{rest}}")


_RULES = (*lift_rules(), *attention_rules(), *_scan_rules(), *head_rules())
TABLES = {"semantic-kitti": NameTable("ScanSSC for SemanticKITTI", _RULES), "kitti-360": NameTable("ScanSSC for KITTI-360", _RULES)}
