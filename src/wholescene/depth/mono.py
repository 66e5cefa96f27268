"""Depth from one picture by a metric depth network that the library `transformers` knows; its weights are the user's choice."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import numpy as np

from wholescene.depth.files import Metres, Valid
from wholescene.errors import InputError, require
from wholescene.structures import Frame

# model types whose answers are metres; depth_anything is one where its configuration says so
METRIC = ("zoedepth", "glpn", "depth_pro", "depth_anything")


class MetricNetwork:
    """A network loaded once, when the first frame comes.

    It knows no camera: its metres are right for cameras like those it was trained with. Depth Pro alone is told the focal length.

    Attributes:
        weights: a folder that `save_pretrained` wrote, or a name on the hub, which is downloaded once.
    """

    needs: frozenset[str] = frozenset()

    def __init__(self, weights: str, device: str = "cpu") -> None:
        if not weights:
            raise InputError("the depth source mono needs weights: mono:FOLDER or mono:HUB-NAME, of a metric depth network of transformers")
        self.weights, self.device = weights, device

    @property
    def identity(self) -> str:
        """As every source."""
        return f"mono {self.weights}, {self.fingerprint}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights: a folder may hold others tomorrow."""
        return fingerprint_of(self._model)

    @cached_property
    def _model(self) -> Any:
        transformers = require("transformers", extra="depth")
        try:
            model, told = transformers.AutoModelForDepthEstimation.from_pretrained(self.weights, output_loading_info=True)
        except Exception as error:  # the library and those below it raise many kinds for damaged files; all mean the same here
            raise InputError(
                f"no depth network of transformers in {self.weights!r} ({_first_line(error)}); expected a folder that save_pretrained wrote, "
                "or a hub name"
            ) from error
        kind = model.config.model_type
        if kind not in METRIC or (kind == "depth_anything" and getattr(model.config, "depth_estimation_type", "relative") != "metric"):
            raise InputError(
                f"the depth network {self.weights} ({kind}) gives depth without a scale, not metres; take a metric one, such as ZoeDepth or "
                "the metric form of Depth Anything V2"
            )
        if told["missing_keys"]:  # the library fills them at random
            lacking = sorted(told["missing_keys"])
            raise InputError(f"{self.weights} lacks {len(lacking)} of the weights of its depth network, first {lacking[0]}; fetch it again, whole")
        return model.eval().to(self.device)

    @cached_property
    def _processor(self) -> Any:
        transformers = require("transformers", extra="depth")
        try:
            return transformers.AutoImageProcessor.from_pretrained(self.weights)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InputError(
                f"{self.weights!r} does not say how pictures are prepared for it ({_first_line(error)}); its preprocessor_config.json is wanted"
            ) from error

    def __call__(self, frame: Frame) -> tuple[Metres, Valid]:
        """As every source.

        Raises:
            InputError: weights that are not there, or not of a metric depth network.
            MissingExtraError: transformers is not installed; install the extra `depth`.
        """
        import torch

        height, width = frame.main.picture.shape[:2]
        model, processor = self._model, self._processor
        with torch.inference_mode():
            inputs = processor(images=frame.main.picture, return_tensors="pt").to(self.device)
            answer = model(**inputs).predicted_depth.float()[None]  # (1, 1, h, w)
            # the processor of ZoeDepth surrounds the picture, as its authors do, so that the network's border lies outside of it
            rows, columns = _surrounds(height, width) if getattr(processor, "do_pad", False) and model.config.model_type == "zoedepth" else (0, 0)
            size = (height + 2 * rows, width + 2 * columns)
            larger = torch.nn.functional.interpolate(answer, size, mode="bilinear", align_corners=False)[0, 0]
        answers = larger[rows : rows + height, columns : columns + width].cpu().numpy()
        metres = _of_focal_length(answers, frame) if model.config.model_type == "depth_pro" else answers
        valid = np.isfinite(metres) & (metres > 0)
        return np.where(valid, metres, np.float32(0)), valid


def fingerprint_of(network: Any) -> str:
    """Names, shapes and first numbers of a network's weights, in 16 hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1)[:64].double().numpy().tobytes())
    return digest.hexdigest()[:16]


def _surrounds(height: int, width: int) -> tuple[int, int]:
    """Rows and columns that ZoeDepth puts around a picture, on each side."""
    return int(3 * np.sqrt(height / 2)), int(3 * np.sqrt(width / 2))


def _of_focal_length(answers: Metres, frame: Frame) -> Metres:
    """Metres from Depth Pro's canonical inverse depth C, (H, W): focal length / (width C) (Bochkovskii et al., ICLR 2025, section 3.1), cut as theirs
    to 1e-4..1e4. Its own estimate of the focal length is not asked, for the camera knows it."""
    camera = frame.main.camera
    inverse = answers * np.float32(camera.width / abs(camera.intrinsics[0, 0]))
    return (1 / np.clip(inverse, 1e-4, 1e4)).astype(np.float32)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
