"""Random rectangles in images, drawn for many images at once."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

ATTEMPTS = 10
ERASED_AREA, ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """One rectangle an image, in pixels."""

    top: Int64[Tensor, " n"]
    left: Int64[Tensor, " n"]
    height: Int64[Tensor, " n"]
    width: Int64[Tensor, " n"]

    def list(self) -> list[tuple[int, int, int, int]]:
        """Top, left, height and width of each."""
        columns = (self.top, self.left, self.height, self.width)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def __getitem__(self, chosen: Int64[Tensor, " k"]) -> "Boxes":
        return Boxes(top=self.top[chosen], left=self.left[chosen], height=self.height[chosen], width=self.width[chosen])


def crop_boxes(
    num_images: int,
    image_size: tuple[int, int],
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    random: torch.Generator,
) -> Boxes:
    """Parts of the image of random area and shape; where ten attempts fit nowhere, the largest part in the middle.

    Source: torchvision's and timm's RandomResizedCrop.
    """
    height_px, width_px = image_size
    height, width = _sizes(num_images, image_size, scale=scale, ratio=ratio, random=random)
    fits = (height > 0) & (height <= height_px) & (width > 0) & (width <= width_px)
    height, width = _first_fitting(fits, height, width)
    whole = width_px / height_px
    if whole < ratio[0]:
        largest = (min(height_px, round(width_px / ratio[0])), width_px)
    elif whole > ratio[1]:
        largest = (height_px, min(width_px, round(height_px * ratio[1])))
    else:
        largest = image_size
    none = ~fits.any(0)
    height[none], width[none] = largest
    top, left = _corners(image_size, height, width, random)
    top[none], left[none] = (height_px - largest[0]) // 2, (width_px - largest[1]) // 2
    return Boxes(top=top, left=left, height=height, width=width)


def erased_boxes(num_images: int, image_size: tuple[int, int], *, probability: float, random: torch.Generator) -> Boxes:
    """The parts to erase; empty for the images that keep everything.

    Source: arXiv:1708.04896 with the ranges of timm's RandomErasing.
    """
    height_px, width_px = image_size
    erased = torch.rand(num_images, generator=random) < probability
    height, width = _sizes(num_images, image_size, scale=ERASED_AREA, ratio=ERASED_RATIO, random=random)
    fits = (height < height_px) & (width < width_px)
    height, width = _first_fitting(fits, height, width)
    erased &= fits.any(0)
    height, width = height * erased, width * erased
    top, left = _corners(image_size, height, width, random)
    return Boxes(top=top, left=left, height=height, width=width)


def square_boxes(num_images: int, image_size: tuple[int, int], *, side_px: int, random: torch.Generator) -> Boxes:
    """Squares around a pixel anywhere in the image, as far as they lie inside.

    Source: arXiv:1708.04552 (cutout).
    """
    edges = []
    for side in image_size:
        centre = torch.randint(0, side, (num_images,), generator=random)
        start = centre - side_px // 2
        edges.append((start.clamp(min=0), (start + side_px).clamp(max=side)))
    (top, bottom), (left, right) = edges
    return Boxes(top=top, left=left, height=bottom - top, width=right - left)


def _sizes(
    num_images: int,
    image_size: tuple[int, int],
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    random: torch.Generator,
) -> tuple[Int64[Tensor, "attempts n"], Int64[Tensor, "attempts n"]]:
    """Heights and widths: the area uniform, the logarithm of the ratio uniform."""
    numbers: Float[Tensor, "2 attempts n"] = torch.rand(2, ATTEMPTS, num_images, generator=random)
    area = (scale[0] + (scale[1] - scale[0]) * numbers[0]) * (image_size[0] * image_size[1])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    width_over_height = torch.exp(low + (high - low) * numbers[1])
    height, width = (area / width_over_height).sqrt(), (area * width_over_height).sqrt()
    return height.round().long(), width.round().long()


def _first_fitting(
    fits: Bool[Tensor, "attempts n"], height: Int64[Tensor, "attempts n"], width: Int64[Tensor, "attempts n"]
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    # Of equal values argmax takes the first.
    first = fits.int().argmax(0, keepdim=True)
    return height.gather(0, first)[0], width.gather(0, first)[0]


def _corners(
    image_size: tuple[int, int], height: Int64[Tensor, " n"], width: Int64[Tensor, " n"], random: torch.Generator
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Tops and lefts, each place inside the image equally likely."""
    numbers = torch.rand(2, len(height), generator=random, dtype=torch.float64)
    top = (numbers[0] * (image_size[0] - height + 1)).long()
    left = (numbers[1] * (image_size[1] - width + 1)).long()
    return top, left
