"""What weights exist, as data, and `load`, which turns a name or a file into a system."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wholescene.errors import InputError, unknown_name

if TYPE_CHECKING:
    from wholescene.systems.base import System

_BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class WeightsCard:
    """One set of weights.

    Attributes:
        name: with dashes.
        system: name in the table of systems.
        setting: conventions, size and dataset that build the config.
        inputs: what it eats at test time.
        trained_on: data and split.
        licence: of the weights, with what it forbids.
        source: page of its authors; "in the package" for the bundled ones.
        file: file name inside the package, or as its authors name it; in angle brackets what it holds, where its name is not known.
        fingerprint: SHA-256 over the sorted "name<TAB>shape" lines of the state dict as its authors wrote it; empty for the bundled ones.
        published: number, split, frames and data revision as printed by its authors.
        measured: number that we measured, with frames, data revision and date; empty if not measured.
        note: one sentence on what that means for a real photo.
    """

    name: str
    system: str
    setting: str
    inputs: str
    trained_on: str
    licence: str
    source: str
    file: str
    fingerprint: str
    published: str
    measured: str
    note: str

    @property
    def bundled(self) -> bool:
        """Whether the package carries it."""
        return self.source == "in the package"


WEIGHTS = {
    card.name: card
    for card in (
        WeightsCard(
            name="monoscene-street-small",
            system="monoscene",
            setting="clean, small, 256 x 256 x 32 voxels of 0.2 m",
            inputs="one picture",
            trained_on="procedural streets only; encoder started from ImageNet weights of EfficientNet-Lite0 (Apache-2.0)",
            licence="Apache-2.0",
            source="in the package",
            file="monoscene-street-small.safetensors",
            fingerprint="",
            published="",
            measured="IoU 32.41, mIoU 13.55 on 64 held-out streets, all known voxels, absent classes count 0 (2026-11-26; benchmarks/bundled.py)",
            note="Trained on rendered streets only, so a real photo gives a rough sketch of ground, walls and large things, not a measurement.",
        ),
        WeightsCard(
            name="cgformer-semantic-kitti",
            system="cgformer",
            setting="exact, full, SemanticKITTI",
            inputs="one picture and its depth",
            trained_on="SemanticKITTI 00-07, 09, 10, with stereo depth of MobileStereoNet",
            licence="code Apache-2.0; trained on SemanticKITTI, which is for non-commercial use",
            source="github.com/pkqbajng/CGFormer",
            file="<CGFormer for SemanticKITTI>.ckpt",
            fingerprint="b7df9df6e304ce12bae642c18d2bff3f272b8a38f6885c64ea9f240a3552cdba",
            published="IoU 44.41, mIoU 16.63, hidden test server (sequences 11-21); 45.99 and 16.89 on sequence 08",
            measured="",
            note="Trained on one camera rig in one city with stereo depth; another camera, place or depth source is outside of what it has seen.",
        ),
        WeightsCard(
            name="cgformer-kitti-360",
            system="cgformer",
            setting="exact, full, KITTI-360",
            inputs="one picture and its depth",
            trained_on="SSCBench-KITTI-360, with stereo depth of MobileStereoNet; the weights were chosen on the test split",
            licence="code Apache-2.0; trained on KITTI-360, which is for non-commercial use",
            source="github.com/pkqbajng/CGFormer",
            file="<CGFormer for KITTI-360>.ckpt",
            fingerprint="f784b65dd42f55e21f824894128c6f504df6656e200292dc111096839f83364f",
            published="IoU 48.07, mIoU 20.05, test split",
            measured="",
            note="Trained on one camera rig in one city with stereo depth; another camera, place or depth source is outside of what it has seen.",
        ),
        WeightsCard(
            name="monoscene-room-small",
            system="monoscene",
            setting="clean, small, 60 x 60 x 36 voxels of 0.08 m",
            inputs="one picture",
            trained_on="procedural rooms only; started from monoscene-street-small, whose encoder started from EfficientNet-Lite0 (Apache-2.0)",
            licence="Apache-2.0",
            source="in the package",
            file="monoscene-room-small.safetensors",
            fingerprint="",
            published="",
            measured="IoU 41.62, mIoU 21.48 on 64 held-out rooms (most frequent class of each voxel: 19.96, 8.25), all known voxels, absent classes "
            "count 0; visible voxels alone 28.02 (29.46) (2026-11-26; benchmarks/bundled.py --world room)",
            note="Trained for 38 minutes on rendered rooms only: of five real photos it found floor and bed in one, in four little but floor.",
        ),
        WeightsCard(
            name="monoscene-semantic-kitti",
            system="monoscene",
            setting="exact, full, SemanticKITTI",
            inputs="one picture",
            trained_on="SemanticKITTI 00-07, 09, 10",
            licence="code Apache-2.0; trained on SemanticKITTI, which is for non-commercial use",
            source="github.com/astra-vision/MonoScene",
            file="monoscene_kitti.ckpt",
            fingerprint="9f0aeb8df5c907534ab39540f5d651e3e84ee233807d7e5be645c1495ca3870b",
            published="IoU 34.16, mIoU 11.08, hidden test server (sequences 11-21)",
            measured="",
            note="Trained on one camera rig in one city; another camera or place is outside of what it has seen.",
        ),
        WeightsCard(
            name="monoscene-nyuv2",
            system="monoscene",
            setting="exact, full, NYUv2",
            inputs="one picture",
            trained_on="NYUv2, 795 training frames",
            licence="code Apache-2.0; NYUv2 is for research use",
            source="github.com/astra-vision/MonoScene",
            file="monoscene_nyu.ckpt",
            fingerprint="e5a1dc0ed82e74806235a892c9c5baa5e1cfe043d0831b0a4ac7670bfc6bfc0b",
            published="IoU 42.51, mIoU 26.94, 654 test frames, every voxel that is not unknown",
            measured="",
            note="Trained on rooms seen by one Kinect; a phone picture of a room is outside of what it has seen.",
        ),
        WeightsCard(
            name="iso-nyuv2",
            system="iso",
            setting="exact, full, NYUv2",
            inputs="one picture (a metric depth network is in the file; without it, one picture and its depth)",
            trained_on="NYUv2, 795 training frames; depth network: Depth Anything's, fine-tuned for metres indoors",
            licence="code Apache-2.0; NYUv2 is for research use; the depth network's backbone has a licence of its own (larger ones non-commercial)",
            source="github.com/hongxiaoy/ISO",
            file="iso_nyu.ckpt",
            fingerprint="43571544d0c6c05c0a1eb516394ea911c3577e141e1d8508b3ff1e5e91d53674",
            published="IoU 47.11, mIoU 31.25, 654 test frames, every voxel that is not unknown",
            measured="",
            note="Trained on rooms seen by one Kinect; a phone picture of a room is outside of what it has seen.",
        ),
        WeightsCard(
            name="lmscnet-semantic-kitti",
            system="lmscnet",
            setting="exact, SemanticKITTI, four scales",
            inputs="voxels of one LiDAR sweep",
            trained_on="SemanticKITTI 00-07, 09, 10, voxels of revision v1.0",
            licence="code Apache-2.0; trained on SemanticKITTI, which is for non-commercial use",
            source="github.com/astra-vision/LMSCNet",
            file="LMSCNet.pth",
            fingerprint="2de3f12f9a96fcd5af2f26bc8ef31269ae37defd3a632239a9f4585dd0121856",
            published="IoU 55.32, mIoU 17.01, hidden test server (sequences 11-21), v1.0",
            measured="completion IoU 78.7 on one frame (08/000000) against a truth of ten sweeps, v1.1, 2026-11-26",
            note="Looks at no picture: it completes the voxels of a 64-line LiDAR sweep; those of a depth map are outside of what it has seen.",
        ),
        WeightsCard(
            name="lmscnet-ss-semantic-kitti",
            system="lmscnet",
            setting="exact, SemanticKITTI, one scale",
            inputs="voxels of one LiDAR sweep",
            trained_on="SemanticKITTI 00-07, 09, 10, voxels of revision v1.0",
            licence="code Apache-2.0; trained on SemanticKITTI, which is for non-commercial use",
            source="github.com/astra-vision/LMSCNet",
            file="<LMSCNet-SS>.pth",
            fingerprint="c5826d69515f4128a1c7dc25e7139098174bab8f7b28fe99126d96af3439af6c",
            published="IoU 56.72, mIoU 17.62, hidden test server (sequences 11-21), v1.0",
            measured="",
            note="Looks at no picture: it completes the voxels of a 64-line LiDAR sweep; those of a depth map are outside of what it has seen.",
        ),
        WeightsCard(
            name="scanssc-semantic-kitti",
            system="scanssc",
            setting="exact, full, SemanticKITTI",
            inputs="one picture and its depth",
            trained_on="SemanticKITTI 00-07, 09, 10, with stereo depth of MobileStereoNet",
            licence="none stated; trained on SemanticKITTI, which is for non-commercial use",
            source="github.com/Ha-coding-user/ScanSSC",
            file="ScanSSC_SemanticKITTI.ckpt",
            fingerprint="8bc4bd982f91603ae97ab148e4347f277ee4988cdd860bca2c3bc8438f694904",
            published="IoU 44.54, mIoU 17.40, hidden test server (sequences 11-21); 45.95 and 17.12 on sequence 08",
            measured="",
            note="Trained on one camera rig in one city with stereo depth; another camera, place or depth source is outside of what it has seen.",
        ),
        WeightsCard(
            name="scanssc-kitti-360",
            system="scanssc",
            setting="exact, full, KITTI-360",
            inputs="one picture and its depth",
            trained_on="SSCBench-KITTI-360, with stereo depth of MobileStereoNet",
            licence="none stated; trained on KITTI-360, which is for non-commercial use",
            source="github.com/Ha-coding-user/ScanSSC",
            file="ScanSSC_KITTI360.ckpt",
            fingerprint="3795ab6e0ba36d5fda2e1e72594de14f3768e46fed111500d9ade88a9a35358a",
            published="IoU 48.29, mIoU 20.14, test split",
            measured="",
            note="Trained on one camera rig in one city with stereo depth; another camera, place or depth source is outside of what it has seen.",
        ),
        WeightsCard(
            name="symphonies-semantic-kitti",
            system="symphonies",
            setting="exact, full, SemanticKITTI",
            inputs="one picture and its depth (of a stereo pair)",
            trained_on="SemanticKITTI 00-07, 09, 10; encoder started from MaskDINO (COCO panoptic)",
            licence="code MIT; trained on SemanticKITTI, which is for non-commercial use",
            source="github.com/hustvl/Symphonies",
            file="semantic_kitti_e25_miou0.1489.ckpt",
            fingerprint="942f70e06354624920ad8eaab98dffdadcfd5d6906c5e3eb78e0c7240a219667",
            published="IoU 42.19, mIoU 15.04, hidden test server (sequences 11-21)",
            measured="",
            note="Trained on one camera rig in one city with stereo depth; another camera, place or depth source is outside of what it has seen.",
        ),
        WeightsCard(
            name="symphonies-kitti-360",
            system="symphonies",
            setting="exact, full, SSCBench-KITTI-360",
            inputs="one picture and its depth (of a stereo pair)",
            trained_on="SSCBench-KITTI-360, seven drives; encoder started from MaskDINO (COCO panoptic)",
            licence="code MIT; trained on KITTI-360, which is for non-commercial use",
            source="github.com/hustvl/Symphonies",
            file="kitti_360_e26_miou0.1836.ckpt",
            fingerprint="cb2b11fa4f82b9480bce29dd4fcbc14b6fcdc8c3b53c6f65104ef2d57aeaffac",
            published="IoU 44.12, mIoU 18.58, test drive 0009",
            measured="",
            note="Trained on one camera rig in one city with stereo depth; another camera, place or depth source is outside of what it has seen.",
        ),
        WeightsCard(
            name="ndc-scene-semantic-kitti",
            system="ndc-scene",
            setting="exact, full, SemanticKITTI",
            inputs="one picture",
            trained_on="SemanticKITTI 00-07, 09, 10",
            licence="code without a licence file: ask its authors; trained on SemanticKITTI, which is for non-commercial use",
            source="github.com/Jiawei-Yao0812/NDCScene",
            file="<SemanticKITTI>.ckpt",
            fingerprint="8bfbf041990710d6054ad4bd2076c515f89466fcd0b7677486e7b032b162a98e",
            published="IoU 37.24, mIoU 12.70, sequence 08 (815 frames), as the Symphonies paper quotes it",
            measured="",
            note="Trained on one camera rig in one city; another camera or place is outside of what it has seen.",
        ),
        WeightsCard(
            name="ndc-scene-nyuv2",
            system="ndc-scene",
            setting="exact, full, NYUv2",
            inputs="one picture",
            trained_on="NYUv2, 795 training frames",
            licence="code without a licence file: ask its authors; NYUv2 is for research use",
            source="github.com/Jiawei-Yao0812/NDCScene",
            file="<NYUv2>.ckpt",
            # of the names that the code builds: 1,903 entries, 271,153,588 parameters; the file itself was not at hand
            fingerprint="42dd0c4a957e113bec36eedd74f7afdec9e7ef118a5243a4e1b0dce8282654d0",
            published="IoU 44.17, mIoU 29.03 (its printed classes average 29.58), 654 test frames, every voxel that is not unknown",
            measured="",
            note="Trained on rooms seen by one Kinect; a phone picture of a room is outside of what it has seen.",
        ),
        WeightsCard(
            name="voxformer-proposals-semantic-kitti",
            system="voxformer",
            setting="exact, full, SemanticKITTI, stage 1",
            inputs="stereo depth of up to ten frames",
            trained_on="SemanticKITTI 00-07, 09, 10",
            licence="CC BY-NC-SA 4.0: non-commercial",
            source="github.com/NVlabs/VoxFormer",
            file="<stage 1>.pth",
            fingerprint="bf3b74291fc745b803d49e70b21b2e124b4cdfab71eef1838bb04ad374f694a4",
            published="",
            measured="",
            note="Half of a system: it proposes voxels and names none; join it with stage 2 (wholescene.checkpoints.voxformer.join).",
        ),
        WeightsCard(
            name="voxformer-completion-semantic-kitti",
            system="voxformer",
            setting="exact, full, SemanticKITTI, stage 2 (VoxFormer-S)",
            inputs="one picture and its depth, or proposals of stage 1",
            trained_on="SemanticKITTI 00-07, 09, 10",
            licence="CC BY-NC-SA 4.0: non-commercial",
            source="github.com/NVlabs/VoxFormer",
            file="<VoxFormer-S>.pth",
            fingerprint="12d72a201d83bcc9e8e1da3dcf1eda1ad8ec9056f7857dfa7b44bfddfeaec100",
            published="IoU 42.95, mIoU 12.20, hidden test server (sequences 11-21); with proposals of stage 1",
            measured="",
            note="Trained on one camera rig in one city with stereo depth; another camera, place or depth source is outside of what it has seen.",
        ),
    )
}


def fingerprint(rows: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """SHA-256 (hex) over the sorted lines `name<TAB>shape separated by commas` of a state dict: the same file has the same one, in any order."""
    lines = sorted(f"{name}\t{','.join(map(str, shape))}" for name, shape in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def card(name: str) -> WeightsCard:
    """The card of that name.

    Raises:
        InputError: naming the nearest ones.
    """
    if name not in WEIGHTS:
        raise unknown_name("weights", name, WEIGHTS, "wholescene weights")
    return WEIGHTS[name]


def load(name_or_path: str | Path, device: str = "cpu") -> System:
    """A system with trained weights, in eval mode.

    Args:
        name_or_path: a name from the table of weights, or a file that `train` or `convert` wrote.
        device: a torch device.

    Raises:
        InputError: an unknown name, weights that lie with their authors (where, under which licence, and how to convert them), a file that is
            not ours, or a device that is not there.
    """
    path = Path(name_or_path)
    named = WEIGHTS.get(str(name_or_path))
    if named is not None and not named.bundled:
        raise InputError(
            f"the weights {named.name} lie with their authors and cannot be carried here ({named.licence}); get {named.file} from {named.source}, "
            f"then run: wholescene convert {named.file} {named.name}.safetensors --weights {named.name}, and give that file as the weights"
        )
    if named is not None:
        path = _BUNDLED / named.file
    elif not path.exists() and path.suffix == "" and len(path.parts) == 1:
        card(str(name_or_path))
    from wholescene.checkpoints.native import load as load_native

    system = load_native(path)
    if named is not None:
        system.card.setdefault("name", named.name)
        system.card.setdefault("note", named.note)
    source = system.card.get("depth_source")
    if source == "stereo":  # sources with a folder or a name behind them are the user's to choose: no weights file decides what is read or fetched
        from wholescene.depth.sources import depth_source  # numpy, which --help does without

        system.depth_source = depth_source(source)
    try:
        return system.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}; `wholescene doctor` lists what is there") from error
