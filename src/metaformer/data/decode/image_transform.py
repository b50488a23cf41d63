"""From an image file to a model's input: resize, centre crop, normalise."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from metaformer.core.errors import ConfigError
from metaformer.core.preprocessing import ModelInput
from metaformer.data.decode.image_file import ImageSource, read_image

RESIZED_PX = 1 << 24  # an image that would be resized to more is resized only where it is kept

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


class ImageTransform:
    """Resizes so that the image covers the model's size / crop_fraction, and keeps the centre.

    Source: timm's evaluation transform, crop_mode "center"; pixel for pixel.
    """

    def __init__(self, model_input: ModelInput) -> None:
        self.model_input = model_input
        self.image_size, self.in_chans = model_input.height_and_width, model_input.in_chans
        if self.in_chans not in (1, 3):
            raise ConfigError(
                f"image files are read as RGB (3 channels) or grey (1 channel); this model takes {self.in_chans} "
                "channels. Give it tensors from Python."
            )
        preprocessing = model_input.preprocessing
        height, width = self.image_size
        self._target = int(height / preprocessing.crop_fraction), int(width / preprocessing.crop_fraction)
        self._filter = FILTERS[preprocessing.interpolation]
        self.mean, self.std = self._per_channel(preprocessing.mean), self._per_channel(preprocessing.std)

    def with_preprocessing(self, **changes: Any) -> "ImageTransform":
        """The same with another mean, crop, ..."""
        changed = replace(self.model_input.preprocessing, **changes)
        return ImageTransform(replace(self.model_input, preprocessing=changed))

    def pixels(self, source: ImageSource) -> UInt8[Tensor, "c h w"]:
        """The pixels that the model sees.

        Raises:
            ImageError: The image cannot be read.
        """
        return as_pixels(self.fit(self.read(source)))

    def read(self, source: ImageSource) -> Image.Image:
        """An image in the model's colours, in its own size.

        Raises:
            ImageError: The image cannot be read.
        """
        return read_image(source, mode="RGB" if self.in_chans == 3 else "L", side_px=max(self._target))

    def fit(self, image: Image.Image) -> Image.Image:
        """The part of an image that the model sees, in its size."""
        height, width = self._resized(image.height, image.width)
        kept_height, kept_width = self.image_size
        top, left = round((height - kept_height) / 2), round((width - kept_width) / 2)
        if height * width <= RESIZED_PX:
            resized = image.resize((width, height), self._filter)
            return resized.crop((left, top, left + kept_width, top + kept_height))
        # A strip of one pixel's width would be resized to gigabytes, most of it to be cut off.
        across, along = image.width / width, image.height / height
        box = (left * across, top * along, (left + kept_width) * across, (top + kept_height) * along)
        return image.resize((kept_width, kept_height), self._filter, box=box)

    def normalise(self, pixels: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Pixels as the model's input, on the device where they are."""
        return (pixels.float() / 255 - self.mean.to(pixels.device)) / self.std.to(pixels.device)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """The size that covers the target; the longer side is cut to a whole number if that is square, else rounded."""
        target_height, target_width = self._target
        if target_height != target_width:
            ratio = min(height / target_height, width / target_width)
            return round(height / ratio), round(width / ratio)
        if width <= height:
            return int(target_width * height / width), target_width
        return target_height, int(target_height * width / height)

    def _per_channel(self, values: tuple[float, ...]) -> Float[Tensor, "c 1 1"]:
        tensor = torch.tensor(values)
        # A model for grey images may carry the statistics of colour ones.
        tensor = tensor if len(tensor) == self.in_chans else tensor.mean().expand(self.in_chans)
        return tensor[:, None, None]


def as_pixels(image: Image.Image) -> UInt8[Tensor, "c h w"]:
    """The pixels of an image in colours or grey."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
