"""How training images are varied, as a config."""

import re
from dataclasses import dataclass
from functools import partial

from metaformer.core.checked import check_number
from metaformer.core.errors import ConfigError, shown, unknown
from metaformer.core.seeding import key_seed

# The parts of a policy that timm reads; what it does not know it leaves out without a word.
_NUMBER, _SPREAD = r"\d{1,3}", r"mstd\d{1,3}(?:\.\d+)?"
_POLICIES = re.compile(
    rf"rand(?:-(?:m{_NUMBER}|n{_NUMBER}|p[01](?:\.\d+)?|{_SPREAD}|mmax{_NUMBER}|inc[01]|t\w+))*"
    rf"|augmix(?:-(?:m{_NUMBER}|w{_NUMBER}|d{_NUMBER}|a{_NUMBER}(?:\.\d+)?|b[01]|{_SPREAD}))*"
    rf"|(?:original|originalr|v0|v0r|3a)(?:-{_SPREAD})?"
)
LARGEST_SIDE_PX = 16_384  # of an image that a model is given
CROPS = ("resized", "shift", "none")
FILLS = ("random", "const")
INTERPOLATIONS = ("random", "bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Geometry, colour and erasing of training images, in that order; each image draws its own.

    Source: arXiv:2111.11418, Sec. 4.1 (through timm's transforms); shift, flip and cutout as in arXiv:1708.04552;
    the alternating flip, arXiv:2404.00498, Sec. 3.6.
    """

    crop: str = "resized"  # resized: a random part, resized; shift: the whole image, moved; none
    scale: tuple[float, float] = (0.08, 1.0)  # area of the part that a resized crop takes
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # its width over its height
    shift_px: int = 4  # how far a shift moves at most, each way; the border is filled by reflection
    flip: float = 0.5  # probability of a horizontal flip
    # Each image is flipped in every other epoch, half of them in the first, instead of by chance.
    alternating_flip: bool = False
    color_jitter: float = 0.4  # left out where auto_augment is given, as in timm
    auto_augment: str | None = None  # in timm's words, as rand-m9-mstd0.5-inc1
    interpolation: str = "random"  # of a resized crop: random (bilinear or bicubic), bilinear or bicubic
    erasing: float = 0.0  # probability that a random rectangle is erased
    erasing_fill: str = "random"  # random: with one normally distributed number a pixel and channel; const: with 0
    cutout_px: int = 0  # side of a square at a random place that is set to the mean, in every image; 0: none

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise unknown("augmentation.crop", self.crop, CROPS)
        if self.erasing_fill not in FILLS:
            raise unknown("augmentation.erasing_fill", self.erasing_fill, FILLS)
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("augmentation.interpolation", self.interpolation, INTERPOLATIONS)
        check = partial(check_number, self, group="augmentation")
        for name in ("flip", "erasing"):
            check(name, least=0, most=1)
        if self.alternating_flip and self.flip != 0.5:
            raise ConfigError(
                f"augmentation.alternating_flip flips each image in every other epoch: augmentation.flip must be 0.5; "
                f"got {self.flip}. Leave flip out, or turn alternating_flip off."
            )
        for name in ("shift_px", "cutout_px"):
            check(name, whole=True, least=0, most=LARGEST_SIDE_PX)
        check("color_jitter", least=0, most=100)
        if self.auto_augment is not None and not _POLICIES.fullmatch(self.auto_augment):
            raise ConfigError(
                f"augmentation.auto_augment must be in timm's words; got {shown(self.auto_augment)}. "
                "Try 'rand-m9-mstd0.5-inc1'."
            )
        for name in ("scale", "ratio"):
            check(name, many=True, above=0)
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(
                    f"augmentation.{name} must be two numbers above 0, the smaller first; got {low}, {high}."
                )


def is_flipped_in(epoch: int, *image: int | str) -> bool:
    """Whether the alternating flip flips an image in this epoch.

    Args:
        epoch: Or how often the image was seen before.
        image: What tells the run and the image from others.
    """
    return (key_seed("alternating flip", *image) + epoch) % 2 == 1
