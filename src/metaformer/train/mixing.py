"""Mixup and cutmix: training on mixtures of two images and their classes."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from metaformer.core.checked import check_number
from metaformer.core.seeding import key_seed


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """How images of a batch are mixed in pairs; one mixture ratio a batch.

    Source: mixup, arXiv:1710.09412; cutmix, arXiv:1905.04899; the switch between them as in timm's recipes.
    """

    mixup: float = 0.0  # both parameters of the Beta distribution that the ratio is drawn from; 0: no mixup
    cutmix: float = 0.0  # the same for the area that is kept; 0: no cutmix
    switch: float = 0.5  # probability of cutmix, where both are on
    probability: float = 1.0  # that a batch is mixed at all

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            # Beyond, a beta distribution is a half in every draw, and its random numbers overflow.
            check_number(self, name, least=0, most=1000, group="train.mixing", hint="0 is off.")
        for name in ("switch", "probability"):
            check_number(self, name, least=0, most=1, group="train.mixing")

    @property
    def is_on(self) -> bool:
        """Whether any batch is mixed."""
        return (self.mixup > 0 or self.cutmix > 0) and self.probability > 0


def mix(
    images: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, " b"],
    config: MixingConfig,
    *,
    num_classes: int,
    key: tuple[int | str, ...],
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
    """Mixes each image with its neighbour in the batch, both ways, and their classes in the same ratio.

    Neighbours, where timm takes the batch in reverse, so that every even part of a batch mixes alike in any process.

    Args:
        images: A part of a batch; where its size is odd, the last stays as it is.
        labels: Their classes.
        config: How.
        num_classes: Of the model.
        key: What the batch's ratio and box belong to, such as seed, epoch and step.

    Returns:
        Mixed images, and the share of each class.
    """
    targets = F.one_hot(labels, num_classes).to(images.dtype)
    random = np.random.default_rng(key_seed("mixing", *key))
    if not config.is_on or random.random() >= config.probability:
        return images, targets
    is_cutmix = config.cutmix > 0 and (config.mixup == 0 or random.random() < config.switch)
    alpha = config.cutmix if is_cutmix else config.mixup
    kept = float(random.beta(alpha, alpha))
    partner = (torch.arange(len(images), device=images.device) ^ 1).clamp(max=len(images) - 1)
    if is_cutmix:
        images, kept = _paste(images, partner, kept, random)
    else:
        images = kept * images + (1 - kept) * images[partner]
    return images, kept * targets + (1 - kept) * targets[partner]


def _paste(
    images: Float[Tensor, "b c h w"], partner: Int64[Tensor, " b"], kept: float, random: np.random.Generator
) -> tuple[Float[Tensor, "b c h w"], float]:
    """A box of the partner over each image; and the share of the image that stays, which the border decides too."""
    height, width = images.shape[-2:]
    side = (1 - kept) ** 0.5
    rows, columns = (_span(size, side, random) for size in (height, width))
    mixed = images.clone()
    mixed[..., rows, columns] = images[partner][..., rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - area / (height * width)


def _span(size: int, share: float, random: np.random.Generator) -> slice:
    """A stretch of this share of a side around a random place, cut at the border."""
    half = int(size * share) // 2
    middle = int(random.integers(size))
    return slice(max(0, middle - half), min(size, middle + half))
