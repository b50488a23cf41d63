"""How images become a model's input."""

from dataclasses import dataclass, field
from functools import partial

from metaformer.core.checked import MOST, check_number
from metaformer.core.errors import ConfigError
from metaformer.core.preprocessing import ModelInput, Preprocessing
from metaformer.data.augment.augmentation import LARGEST_SIDE_PX, AugmentationConfig

MOST_CHANNELS = 1024  # of an image


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a data source of photographs needs to know of the model and the recipe; generated data ignore it."""

    image_size: tuple[int, int] | None = None  # height and width, in pixels; None: the images' own, if all agree
    in_chans: int = 3  # channels: 1 or 3
    mean: tuple[float, ...] | None = None  # per channel, of pixels in [0, 1]; None: of the training images
    std: tuple[float, ...] | None = None  # per channel; given together with mean
    crop_fraction: float = 1.0  # of the resized image's side that the centre crop of an evaluation keeps
    interpolation: str = "bicubic"  # of the resizing in evaluation
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    validation_fraction: float = 0.1  # of the training images, held out where the source has no validation split
    max_train_images: int | None = None  # so many of the training images, every class with its share; None: all
    num_train_images: int | None = None  # images an epoch of a stream that does not say its length
    num_classes: int | None = None  # of a stream whose classes are numbers, and which does not say how many

    def __post_init__(self) -> None:
        check = partial(check_number, self, group="preparation")
        check("validation_fraction", above=0, below=1)
        for name in ("max_train_images", "num_train_images", "num_classes"):
            check(name, whole=True, least=1, optional=True)
        check("image_size", whole=True, many=True, least=1, most=LARGEST_SIDE_PX, optional=True)
        check("in_chans", whole=True, least=1, most=MOST_CHANNELS)
        check("mean", many=True, least=-MOST, optional=True)
        check("std", many=True, above=0, optional=True)
        # The same bounds as the model's own: a crop of a hundredth has images resized to a hundred times their side.
        check("crop_fraction", least=0.1, most=1)
        if (self.mean is None) != (self.std is None):
            raise ConfigError("preparation.mean and preparation.std go together: give both or neither.")

    @classmethod
    def of(cls, model_input: ModelInput, augmentation: AugmentationConfig) -> "Preparation":
        """Images as a model takes them."""
        settings = model_input.preprocessing
        return cls(
            image_size=model_input.height_and_width,
            in_chans=model_input.in_chans,
            mean=settings.mean,
            std=settings.std,
            crop_fraction=settings.crop_fraction,
            interpolation=settings.interpolation,
            augmentation=augmentation,
        )

    def model_input(self, image_size: tuple[int, int]) -> ModelInput:
        """What a model gets from images of that size; without mean and standard deviation, pixels in [0, 1]."""
        return ModelInput(
            image_size=image_size,
            in_chans=self.in_chans,
            preprocessing=Preprocessing(
                crop_fraction=self.crop_fraction,
                interpolation=self.interpolation,
                mean=self.mean or (0.0,) * self.in_chans,
                std=self.std or (1.0,) * self.in_chans,
            ),
        )
