"""Brightness, contrast and saturation of many images, varied at random."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as in ITU-R BT.601
STEPS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class ColorJitter:
    """What is random: the three factors of each image, and the order in which they are applied."""

    factors: Float[Tensor, "n 3"]  # of brightness, contrast and saturation
    order: Int64[Tensor, "n 3"]

    def of(self, chosen: Int64[Tensor, " b"]) -> "ColorJitter":
        """The numbers of some of the images."""
        return ColorJitter(factors=self.factors[chosen], order=self.order[chosen])


def draw_color_jitter(num_images: int, strength: float, random: torch.Generator) -> ColorJitter:
    """Factors between 1 - strength and 1 + strength, but not below 0; every order equally likely."""
    low = max(0.0, 1 - strength)
    factors = low + (1 + strength - low) * torch.rand(num_images, STEPS, generator=random)
    return ColorJitter(factors=factors, order=torch.rand(num_images, STEPS, generator=random).argsort(1))


def jitter_color(images: Float[Tensor, "b c h w"], jitter: ColorJitter) -> None:
    """Varies pixels in [0, 1], in place.

    Each step mixes an image with a plainer one (black, its mean grey, its own grey) and cuts off what leaves [0, 1].

    Source: torchvision's ColorJitter without hue, as timm sets it up; not rounded to 8 bits between the steps.
    """
    for step in range(STEPS):
        for kind in range(STEPS):
            chosen = (jitter.order[:, step] == kind).nonzero().flatten()
            if len(chosen):
                factor = jitter.factors[chosen, kind][:, None, None, None]
                images[chosen] = _mix(images[chosen], factor, kind)


def _mix(images: Float[Tensor, "k c h w"], factor: Float[Tensor, "k 1 1 1"], kind: int) -> Float[Tensor, "k c h w"]:
    if kind == 0:
        return (images * factor).clamp_(0, 1)
    grey = images
    if images.shape[1] == len(LUMA):
        grey = (images * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    plain = grey.mean((2, 3), keepdim=True) if kind == 1 else grey
    return (plain + factor * (images - plain)).clamp_(0, 1)
