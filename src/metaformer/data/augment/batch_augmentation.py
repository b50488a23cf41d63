"""Images that lie in memory, varied a batch at a time."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from metaformer.core.seeding import generator
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.augment.batch_color import ColorJitter, draw_color_jitter, jitter_color
from metaformer.data.augment.random_boxes import Boxes, crop_boxes, erased_boxes, square_boxes
from metaformer.data.decode.image_transform import ImageTransform

MODES = ("bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochNumbers:
    """What is random in an epoch, for all images in their order."""

    seed: int
    epoch: int
    shift_px: Int64[Tensor, "n 2"] | None
    crop: Boxes | None
    is_bicubic: Bool[Tensor, " n"] | None
    is_flipped: Bool[Tensor, " n"] | None
    color: ColorJitter | None
    erased: Boxes | None
    cutout: Boxes | None


class BatchAugmentation:
    """Crop, flip, colour, normalisation, erasing and cutout of images of one size.

    The numbers of an epoch are drawn for all images at once, by seed and epoch, so that an image looks the same
    whichever process asks for it and whatever it asked for before.
    """

    def __init__(self, pixels: UInt8[Tensor, "n c h w"], config: AugmentationConfig, transform: ImageTransform) -> None:
        self.config = config
        self._num_images, self._size = len(pixels), (pixels.shape[2], pixels.shape[3])
        self._mean, self._std = transform.mean, transform.std
        stored = pixels.numpy()
        if config.crop == "shift":
            border = (config.shift_px, config.shift_px)
            stored = np.pad(stored, ((0, 0), (0, 0), border, border), mode="reflect")
        # NumPy copies windows row by row, several times faster than PyTorch's indexing.
        self._windows = np.lib.stride_tricks.sliding_window_view(stored, self._size, axis=(2, 3))

    def draw(self, *, seed: int, epoch: int) -> EpochNumbers:
        """The numbers of an epoch."""
        config, num, size = self.config, self._num_images, self._size

        def random(what: str) -> torch.Generator:
            return generator("augmentation", what, seed, epoch)

        is_resized = config.crop == "resized"
        return EpochNumbers(
            seed=seed,
            epoch=epoch,
            shift_px=torch.randint(0, 2 * config.shift_px + 1, (num, 2), generator=random("shift"))
            if config.crop == "shift"
            else None,
            crop=crop_boxes(num, size, scale=config.scale, ratio=config.ratio, random=random("crop"))
            if is_resized
            else None,
            is_bicubic=_is_bicubic(config, num, random("interpolation")) if is_resized else None,
            is_flipped=self._flips(seed, epoch) if config.flip else None,
            color=draw_color_jitter(num, config.color_jitter, random("color")) if config.color_jitter else None,
            erased=erased_boxes(num, size, probability=config.erasing, random=random("erasing"))
            if config.erasing
            else None,
            cutout=square_boxes(num, size, side_px=config.cutout_px, random=random("cutout"))
            if config.cutout_px
            else None,
        )

    def _flips(self, seed: int, epoch: int) -> Bool[Tensor, " n"]:
        if self.config.alternating_flip:
            first = torch.rand(self._num_images, generator=generator("augmentation", "alternating flip", seed)) < 0.5
            return first ^ bool(epoch % 2)
        random = generator("augmentation", "flip", seed, epoch)
        return torch.rand(self._num_images, generator=random) < self.config.flip

    def batch(self, chosen: Int64[Tensor, " b"], numbers: EpochNumbers) -> Float[Tensor, "b c h w"]:
        """Some of the images as the model sees them in this epoch."""
        places = chosen.numpy()
        if numbers.shift_px is not None:
            top, left = numbers.shift_px[chosen].T.numpy()
            pixels = self._windows[places, :, top, left]
        else:
            pixels = self._windows[places, :, 0, 0]
        if numbers.crop is not None and numbers.is_bicubic is not None:
            self._resize(pixels, numbers.crop[chosen], numbers.is_bicubic[chosen])
        if numbers.is_flipped is not None:
            flipped = numbers.is_flipped[chosen].numpy()
            pixels[flipped] = pixels[flipped][..., ::-1]
        images = torch.from_numpy(pixels).float().div_(255)
        if numbers.color is not None:
            jitter_color(images, numbers.color.of(chosen))
        images.sub_(self._mean).div_(self._std)
        if numbers.erased is not None:
            self._erase(images, chosen, numbers.erased[chosen], numbers)
        if numbers.cutout is not None:
            values = images.numpy()
            for place, (top_px, left_px, height, width) in enumerate(numbers.cutout[chosen].list()):
                values[place, :, top_px : top_px + height, left_px : left_px + width] = 0
        return images

    def _resize(self, pixels: np.ndarray, boxes: Boxes, is_bicubic: Bool[Tensor, " b"]) -> None:
        for place, ((top, left, height, width), bicubic) in enumerate(
            zip(boxes.list(), is_bicubic.tolist(), strict=True)
        ):
            part = torch.from_numpy(pixels[place, :, top : top + height, left : left + width].copy())
            resized = F.interpolate(part[None], self._size, mode=MODES[bicubic], antialias=True)
            pixels[place] = resized[0].numpy()

    def _erase(
        self, images: Float[Tensor, "b c h w"], chosen: Int64[Tensor, " b"], boxes: Boxes, numbers: EpochNumbers
    ) -> None:
        for place, (top, left, height, width) in enumerate(boxes.list()):
            if not height:
                continue
            part = images[place, :, top : top + height, left : left + width]
            if self.config.erasing_fill == "const":
                part.zero_()
            else:
                # A generator an image: noise for all of an epoch's images would not fit into memory.
                part.normal_(generator=generator("erased", numbers.seed, numbers.epoch, int(chosen[place])))


def _is_bicubic(config: AugmentationConfig, num_images: int, random: torch.Generator) -> Bool[Tensor, " n"]:
    if config.interpolation == "random":
        return torch.rand(num_images, generator=random) < 0.5
    return torch.full((num_images,), config.interpolation == "bicubic")
