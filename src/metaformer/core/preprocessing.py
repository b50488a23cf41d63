"""How an image becomes a model's input: one object, from the data to the model, its weights and whoever uses them."""

from dataclasses import dataclass, field

from metaformer.core.checked import MOST, check_number
from metaformer.core.errors import ConfigError, unknown

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resized so that it covers the model's size / crop_fraction, its centre kept, its pixels normalised."""

    crop_fraction: float = 0.9  # of the resized image's side that the centre crop keeps
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN  # per channel, of pixels in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        # A crop of a hundredth would have images resized to a hundred times the model's side.
        check_number(self, "crop_fraction", least=0.1, most=1)
        check_number(self, "mean", many=True, least=-MOST)
        check_number(self, "std", many=True, above=0)
        if not len(self.mean) == len(self.std) > 0:
            raise ConfigError(
                "Preprocessing.mean and std must have one value a channel; "
                f"got {len(self.mean)} and {len(self.std)} values."
            )
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """What a model takes: images of a size and number of channels, prepared in one way."""

    image_size: tuple[int, ...]  # length; height and width; or depth, height and width: in samples, pixels or voxels
    in_chans: int = 3
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    @property
    def height_and_width(self) -> tuple[int, int]:
        """`image_size` of pictures.

        Raises:
            ConfigError: There is one axis, or there are three.
        """
        if len(self.image_size) != 2:
            raise ConfigError(
                f"pictures have a height and a width; this model takes arrays of {len(self.image_size)} axes, "
                f"{'x'.join(map(str, self.image_size))}."
            )
        return self.image_size[0], self.image_size[1]


def as_it_is(image_size: tuple[int, ...], *, mean: tuple[float, ...], std: tuple[float, ...]) -> ModelInput:
    """Of data that are no files: images of one size, of which nothing is cut off, with as many channels as means."""
    return ModelInput(
        image_size=image_size, in_chans=len(mean), preprocessing=Preprocessing(crop_fraction=1.0, mean=mean, std=std)
    )
