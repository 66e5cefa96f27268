"""Datasets, one file a layout, how frames become a batch, and the table of what can be opened by name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from wholescene.data.config import DataConfig, parse_names, parse_seeds
from wholescene.errors import InputError, unknown_name
from wholescene.labels import LabelSet
from wholescene.structures import Frame


class Dataset(Protocol):
    """What every dataset gives: frames by number, their names, and what their labels mean."""

    @property
    def names(self) -> list[str]:
        """Of the frames, in order."""
        ...

    @property
    def labels(self) -> LabelSet:
        """What the targets' numbers mean."""
        ...

    def __len__(self) -> int:
        """How many frames."""
        ...

    def __getitem__(self, index: int) -> Frame:
        """One frame."""
        ...


@dataclass(frozen=True)
class Row:
    """One dataset of the table.

    Attributes:
        summary: one line for listings.
        gives: inputs beside the main picture that its frames can have ("right", "occupancy", "points", "depth").
        open: makes it from a config, what a role takes (text), and the inputs wanted.
    """

    summary: str
    gives: frozenset[str]
    open: Callable[[DataConfig, str, Collection[str]], Dataset]


def open_dataset(config: DataConfig, role: str, needs: Collection[str] = (), wishes: Collection[str] = ()) -> Dataset:
    """The dataset of a config, for one role.

    Args:
        config: which dataset, where, and what each role takes.
        role: "train", "val" or "test".
        needs: inputs beside the main picture that a system wants. Depth comes from the config's depth source, or from the dataset itself.
        wishes: inputs that are welcome, such as what only losses look at; without a source of depth they are left out where there is none.

    Raises:
        InputError: an unknown dataset or role, no root where one is needed, nothing there, or depth that neither the dataset nor a source gives.
    """
    if config.dataset not in DATASETS:
        raise unknown_name("dataset", config.dataset, DATASETS)
    row, wanted = DATASETS[config.dataset], frozenset(needs) | frozenset(wishes)
    if "depth" not in wanted or (not config.depth and ("depth" in row.gives or "depth" not in needs)):
        return row.open(config, config.part(role), wanted & row.gives)
    from wholescene.data.with_depth import WithDepth, source_of

    source = source_of(config, row.gives)
    frames = row.open(config, config.part(role), ((wanted - {"depth"}) & row.gives) | source.needs)
    return WithDepth(frames, source, unwanted=source.needs - wanted)


def _semantic_kitti(config: DataConfig, part: str, needs: Collection[str]) -> Dataset:
    from wholescene.data.layout import SPLITS
    from wholescene.data.semantic_kitti import SemanticKITTI

    if config.root is None:
        raise InputError("no folder is given for semantic-kitti; set the root to the folder that holds dataset/sequences/")
    chosen: dict[str, Any] = {"split": part} if part in SPLITS else {"sequences": parse_names(part)}
    return SemanticKITTI(
        config.root,
        **chosen,
        right="right" in needs,
        occupancy="occupancy" in needs,
        points="points" in needs,
        depth_target="depth_target" in needs,
        scales=config.scales,
        revision=config.revision,
        stride=config.stride,
        exclude=config.exclude,
    )


def _sscbench_kitti_360(config: DataConfig, part: str, needs: Collection[str]) -> Dataset:
    from wholescene.data.sscbench_kitti_360 import SPLITS, SSCBenchKITTI360

    if config.root is None:
        raise InputError("no folder is given for sscbench-kitti-360; set the root to the folder that holds data_2d_raw/")
    chosen: dict[str, Any] = {"split": part} if part in SPLITS else {"drives": parse_names(part)}
    return SSCBenchKITTI360(
        config.root,
        **chosen,
        right="right" in needs,
        occupancy="occupancy" in needs,
        scales=config.scales,
        stride=config.stride,
        exclude=config.exclude,
    )


def _nyuv2(config: DataConfig, part: str, needs: Collection[str]) -> Dataset:
    from wholescene.data.nyuv2 import SPLITS, NYUv2

    if config.root is None:
        raise InputError("no folder is given for nyuv2; set the root to the folder that holds NYUtrain/ and NYUtest/")
    chosen: dict[str, Any] = {"split": part} if part in SPLITS else {"names": parse_names(part)}
    return NYUv2(config.root, **chosen, depth="depth" in needs, exclude=config.exclude)


def _occscannet(config: DataConfig, part: str, needs: Collection[str]) -> Dataset:
    from wholescene.data.occscannet import OccScanNet

    if config.root is None:
        raise InputError("no folder is given for occscannet; set the root to the folder that holds gathered_data/, posed_images/ and the lists")
    options = {"lists": config.setting or "full", "protocol": config.protocol or "known", "axes": config.axes or "y-x-z"}
    return OccScanNet(config.root, part, **options, depth="depth" in needs, exclude=config.exclude)


def _street(config: DataConfig, part: str, needs: Collection[str]) -> Dataset:
    from wholescene.worlds.street import Streets, preset

    if config.scales or config.exclude:
        raise InputError("streets carry their target at full size and leave no frame out; leave data.scales and data.exclude away")
    return Streets(parse_seeds(part), preset(config.setting or "full"), right="right" in needs)


def _room(config: DataConfig, part: str, needs: Collection[str]) -> Dataset:
    from wholescene.worlds.room import Rooms, preset

    if config.scales or config.exclude:
        raise InputError("rooms carry their target at full size and leave no frame out; leave data.scales and data.exclude away")
    return Rooms(parse_seeds(part), preset(config.setting or "nyuv2"))


DATASETS = {
    "semantic-kitti": Row(
        "SemanticKITTI scene completion (Behley et al. 2019), or an own recording in its layout",
        frozenset({"right", "occupancy", "points", "depth_target"}),
        _semantic_kitti,
    ),
    "sscbench-kitti-360": Row(
        "SSCBench-KITTI-360 (Li et al. 2024): drives of KITTI-360 in the manner of SemanticKITTI",
        frozenset({"right", "occupancy"}),
        _sscbench_kitti_360,
    ),
    "nyuv2": Row("NYUv2 scene completion (Silberman et al. 2012) in SSCNet's layout", frozenset({"depth"}), _nyuv2),
    "occscannet": Row("Occ-ScanNet (Yu et al. 2024) and its mini lists", frozenset({"depth"}), _occscannet),
    "street": Row("procedural streets, made as they are asked for", frozenset({"depth", "right"}), _street),
    "room": Row("procedural rooms, made as they are asked for", frozenset({"depth"}), _room),
}
