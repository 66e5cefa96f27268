"""A metric depth network of transformers, made here with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.depth.caching import Cached
from wholescene.depth.mono import MetricNetwork
from wholescene.depth.sources import depth_source
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.structures import Frame, View

transformers = pytest.importorskip("transformers")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def frame(height: int, width: int) -> Frame:
    camera = Camera.from_fov(70, (width, height)).on_ground(1.5)
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame("street", {"main": View(picture, camera)}, GridPlacement((8, 8, 4), (2, 2, 1)).place(camera))


def save(folder: Path, kind: str = "metric") -> torch.nn.Module:
    torch.manual_seed(0)
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=56, patch_size=14, out_features=STAGES,
        reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, head_hidden_size=8,
        depth_estimation_type=kind, max_depth=80,
    )  # fmt: skip
    model = transformers.DepthAnythingForDepthEstimation(config)
    for parameter in model.head.parameters():
        parameter.data.mul_(100)  # so that the answer differs from pixel to pixel
    model.save_pretrained(folder)
    said = {
        "image_processor_type": "DPTImageProcessor", "do_resize": True, "size": {"height": 56, "width": 56}, "keep_aspect_ratio": True,
        "ensure_multiple_of": 14, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": MEAN, "image_std": STD,
        "resample": 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return model.eval()


def test_the_metres_are_the_networks_own(tmp_path: Path) -> None:
    model, one = save(tmp_path), frame(56, 84)  # a size that the processor leaves as it is
    metres, valid = depth_source(f"mono:{tmp_path}")(one)
    pixels = (torch.from_numpy(one.main.picture).permute(2, 0, 1)[None] / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        expected = model(pixel_values=pixels).predicted_depth[0].numpy()
    assert metres.dtype == np.float32
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(metres, np.where(valid, expected, 0), rtol=1e-3, atol=1e-3)


def test_any_picture_size_gets_its_own_depth_and_it_is_kept(tmp_path: Path) -> None:
    save(tmp_path / "weights")
    source = MetricNetwork(str(tmp_path / "weights"))
    metres, valid = source(frame(61, 97))
    assert metres.shape == valid.shape == (61, 97)
    assert np.ptp(metres[valid]) > 1
    kept = Cached(source, tmp_path / "kept")
    assert np.array_equal(kept(frame(61, 97))[0], metres)
    other = MetricNetwork(str(tmp_path / "weights"))
    assert other.identity == source.identity
    with torch.no_grad():
        next(other._model.parameters()).add_(1)
    del other.__dict__["fingerprint"]
    assert other.identity != source.identity


def test_zoedepths_surrounding_is_cut_off_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = transformers.BeitConfig(
        image_size=64, patch_size=16, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, out_features=STAGES,
        reshape_hidden_states=False, use_relative_position_bias=True,
    )  # fmt: skip
    config = transformers.ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, bottleneck_features=8, num_relative_features=8,
        bin_embedding_dim=8, num_attractors=[4, 2, 2, 1], bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
        num_patch_transformer_layers=None, patch_transformer_num_attention_heads=None,
    )  # fmt: skip
    transformers.ZoeDepthForDepthEstimation(config).save_pretrained(tmp_path)
    said = {"image_processor_type": "ZoeDepthImageProcessor", "size": {"height": 64, "width": 64}, "ensure_multiple_of": 32, "do_pad": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    source, one = MetricNetwork(str(tmp_path)), frame(50, 98)
    seen: list[torch.Tensor] = []

    def answer(**inputs: torch.Tensor) -> object:
        """Each column says its own number in the surrounded picture of 50 + 2 x 15 by 98 + 2 x 21 pixels."""
        seen.append(inputs["pixel_values"])
        height, width = inputs["pixel_values"].shape[2:]
        columns = (torch.arange(width) + 0.5) * (140 / width) - 0.5
        return type("Answer", (), {"predicted_depth": (columns + 100).expand(1, height, width)})

    answer.config = config  # type: ignore[attr-defined]
    source.__dict__["_model"] = answer
    metres, _ = source(one)
    assert len(seen) == 1
    np.testing.assert_allclose(metres, np.broadcast_to(np.arange(98) + 121.0, (50, 98)), atol=1e-2)


def test_depth_pros_inverse_depth_becomes_metres_by_the_focal_length_of_the_camera() -> None:
    """Its processor wants torchvision from transformers 5 on, so the picture is not prepared here."""
    source, one = MetricNetwork("depth-pro"), frame(50, 98)
    inverse = torch.full((1, 48, 48), 0.25)

    def network(**_: torch.Tensor) -> object:
        return type("Answer", (), {"predicted_depth": inverse, "field_of_view": torch.tensor([30.0])})  # its own guess of the lens, which is wrong

    network.config = type("Config", (), {"model_type": "depth_pro"})  # type: ignore[attr-defined]
    prepared = type("Prepared", (dict,), {"to": lambda self, _: self})
    source.__dict__ |= {"_model": network, "_processor": lambda **_: prepared()}
    metres, valid = source(one)
    assert valid.all()
    # focal length over width is half a width over the tangent of half the field of view, 70 degrees
    np.testing.assert_allclose(metres, 0.5 / np.tan(np.radians(35)) / 0.25, rtol=1e-5)
    inverse.zero_()
    assert source(one)[0].max() <= 1e4 * (1 + 1e-6), "as far as theirs goes, and not infinite"


def test_networks_without_a_scale_and_folders_without_one_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "relative", kind="relative")
    with pytest.raises(InputError, match="gives depth without a scale"):
        MetricNetwork(str(tmp_path / "relative"))(frame(56, 56))
    save(tmp_path / "unprepared")
    (tmp_path / "unprepared" / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"preprocessor_config\.json is wanted"):
        MetricNetwork(str(tmp_path / "unprepared"))(frame(56, 56))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no depth network of transformers in .*empty"):
        MetricNetwork(str(tmp_path / "empty"))(frame(56, 56))


def test_damaged_weights_are_refused_and_what_they_lack_is_not_made_up(tmp_path: Path) -> None:
    save(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    for content in (b"no weights", whole[:2000]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no depth network"):
            MetricNetwork(str(tmp_path))(frame(56, 84))
    path.write_bytes(whole)
    safetensors = pytest.importorskip("safetensors.torch")
    held = safetensors.load_file(path)
    safetensors.save_file({n: v for n, v in held.items() if not n.startswith("head.")}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 6 of the weights .*head\.conv1\.bias"):
        MetricNetwork(str(tmp_path))(frame(56, 84))
