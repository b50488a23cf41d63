"""From an image file to a model's input: resize, centre crop, normalise."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from metaformer.core.errors import ConfigError, unknown
from metaformer.data.decode.image_file import ImageSource, read_image
from metaformer.data.preparation import Preparation

STRIP = 4  # an image that is so many times longer than what is kept of it is cut before it is resized


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """Resizes so that the image covers image_size / crop_fraction, and keeps the centre.

    Source: timm's evaluation transform, crop_mode "center".
    """

    image_size: tuple[int, int]  # height and width, in pixels
    crop_fraction: float = 1.0
    interpolation: str = "bicubic"
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]
    in_chans: int = 3

    def __post_init__(self) -> None:
        if self.in_chans not in (1, 3):
            raise ConfigError(
                f"image files are read as RGB (3 channels) or grey (1 channel); this model takes {self.in_chans} "
                "channels. Give it tensors from Python."
            )
        if not 0 < self.crop_fraction <= 1:
            raise ConfigError(f"crop_fraction must be above 0 and at most 1; got {self.crop_fraction:g}.")
        known = [mode.value for mode in InterpolationMode]
        if self.interpolation not in known:
            raise unknown("interpolation", self.interpolation, known)

    @classmethod
    def of(cls, preparation: Preparation, image_size: tuple[int, int]) -> "ImageTransform":
        """The transform that a preparation asks for; without mean and standard deviation it leaves pixels in [0, 1]."""
        return cls(
            image_size=image_size,
            crop_fraction=preparation.crop_fraction,
            interpolation=preparation.interpolation,
            mean=preparation.mean or (0.0,) * preparation.in_chans,
            std=preparation.std or (1.0,) * preparation.in_chans,
            in_chans=preparation.in_chans,
        )

    def pixels(self, source: ImageSource) -> UInt8[Tensor, "c h w"]:
        """The pixels that the model sees.

        Raises:
            ImageError: The image cannot be read.
        """
        return v2.pil_to_tensor(self.fit(self.read(source)))

    def read(self, source: ImageSource) -> Image.Image:
        """An image in the model's colours, in its own size.

        Raises:
            ImageError: The image cannot be read.
        """
        return read_image(source, mode="RGB" if self.in_chans == 3 else "L", side_px=max(self._resized_size))

    def fit(self, image: Image.Image) -> Image.Image:
        """The part of an image that the model sees, in its size."""
        if image.size == (self.image_size[1], self.image_size[0]) and self.crop_fraction == 1:
            return image
        return v2.center_crop(self._cover(image, *self._resized_size), list(self.image_size))

    @property
    def _resized_size(self) -> tuple[int, int]:
        height, width = self.image_size
        return int(height / self.crop_fraction), int(width / self.crop_fraction)

    def normalise(self, pixels: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Pixels as the model's input, on the device where they are."""
        mean, std = (self.per_channel(values).to(pixels.device) for values in (self.mean, self.std))
        return (pixels.float() / 255 - mean) / std

    def _cover(self, image: Image.Image, height: int, width: int) -> Image.Image:
        scale = max(height / image.height, width / image.width)
        if image.height * scale > STRIP * height or image.width * scale > STRIP * width:
            # A strip of one pixel's width would be resized to gigabytes, most of it to be cut off.
            kept = (min(image.height, math.ceil(2 * height / scale)), min(image.width, math.ceil(2 * width / scale)))
            image = v2.center_crop(image, list(kept))
        if height / image.height >= width / image.width:
            size = (height, max(width, int(height * image.width / image.height)))
        else:
            size = (max(height, int(width * image.height / image.width)), width)
        return v2.resize(image, list(size), interpolation=InterpolationMode(self.interpolation), antialias=True)

    def per_channel(self, values: tuple[float, ...]) -> Float[Tensor, "c 1 1"]:
        """Mean or standard deviation, ready to be broadcast over images."""
        tensor = torch.tensor(values)
        # A model for grey images may carry the statistics of colour ones.
        tensor = tensor if len(tensor) == self.in_chans else tensor.mean().expand(self.in_chans)
        return tensor[:, None, None]
