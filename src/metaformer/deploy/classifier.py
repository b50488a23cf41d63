"""A trained model with the names of its classes, from whatever a person has at hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.core.devices import choose_device
from metaformer.core.errors import ConfigError, did_you_mean, unknown
from metaformer.core.preprocessing import Preprocessing
from metaformer.data.decode.image_transform import ImageTransform
from metaformer.fast.fastest_form import fastest_form
from metaformer.models.create import create_model
from metaformer.models.identify import identify
from metaformer.models.metaformer import MetaFormer
from metaformer.models.published import PUBLISHED
from metaformer.models.weights import WEIGHTS_FILE, read_weights
from metaformer.models.weights.download import is_remote
from metaformer.models.zoo import ZOO
from metaformer.train.config import AUTOCAST, PRECISIONS

IMAGENET_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model whose classifier was trained."""

    model: MetaFormer
    class_names: tuple[str, ...] = ()  # in the model's order; empty: nobody knows them
    name: str = "model"
    weights: str = ""  # where they came from

    def transform(self, *, crop_fraction: float | None = None) -> ImageTransform:
        """How image files become the model's input."""
        transform = ImageTransform(self.model.config.model_input)
        return transform if crop_fraction is None else transform.with_preprocessing(crop_fraction=crop_fraction)

    def name_of(self, index: int) -> str:
        """A class by its name, or by its number where it has none."""
        return self.class_names[index] if self.class_names else str(index)


def open_classifier(
    name: str | None,
    weights: str | Path | None,
    *,
    image_size: int | tuple[int, int] | None = None,
    device: str = "auto",
) -> Classifier:
    """Builds a trained model.

    Args:
        name: A model of the zoo; None: the weights say which. A run folder or weights file may stand here, alone.
        weights: A file, run folder, URL or hub id.
        image_size: Side, or height and width, in pixels, if not the model's own.
        device: "auto", "cpu", "cuda", ...

    Raises:
        ConfigError: There are no trained weights for the classifier, or they do not fit the model.
        DataError: The weights cannot be read.
    """
    if name is not None and name not in ZOO and weights is None and is_weights(name):
        name, weights = None, name
    if name is not None and name not in ZOO:
        nor_weights = "" if weights else f", and no folder with {WEIGHTS_FILE}"
        raise ConfigError(
            f"{name!r} is no model of the zoo{nor_weights}.{did_you_mean(name, ZOO)} See: metaformer models"
        )
    if weights is None:
        raise ConfigError(_without_weights(name))
    target = choose_device(device)
    stored = read_weights(weights, like=None if name is None else ZOO[name])
    if name is None and stored.config is None:
        name = identify(stored)
    what = name if name is not None else stored.config
    assert what is not None
    try:
        model = create_model(what, weights=stored, image_size=image_size)
    except ConfigError as error:
        if name is None or stored.config is None:
            raise
        raise ConfigError(
            f"the weights of {weights} do not fit {name}: {error} They say what they fit: leave the name out."
        ) from None
    if not model.config.num_classes:
        raise ConfigError(
            f"the weights of {weights} have no classifier: they are those of a backbone. Train one first."
        )
    return Classifier(
        model=model.to(target).eval(),
        class_names=stored.class_names if len(stored.class_names) == model.config.num_classes else (),
        name=name or Path(str(weights)).name,
        weights=str(weights),
    )


def is_weights(word: str) -> bool:
    """Whether a word is a weights file, a run folder, a URL or a hub id."""
    path = Path(word)
    return (
        is_remote(word)
        or (path / WEIGHTS_FILE).is_file()
        or path.suffix in (".safetensors", ".pth", ".pt", ".bin", ".tar")
    )


def _without_weights(name: str | None) -> str:
    if name is None:
        return "no model: name one of the zoo (metaformer models) with its --weights, or a run folder."
    published = PUBLISHED.get(name, ())
    hint = f" Published: --weights {published[0].url}" if published else ""
    return f"{name} without --weights has a head that was never trained: its answers would be random.{hint}"


def imagenet_names(classifier: Classifier) -> Classifier:
    """The same classifier with ImageNet's names, if it has a thousand classes and no names of its own."""
    if classifier.class_names or classifier.model.config.num_classes != IMAGENET_CLASSES:
        return classifier
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = tuple(info.index_to_description(index).split(",")[0] for index in range(IMAGENET_CLASSES))
    return replace(classifier, class_names=names)


def imagenet_synsets() -> tuple[str, ...]:
    """The names of ImageNet's folders, as n01440764, in the order of its classes."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


def renormalise(
    inputs: Float[Tensor, "n c *grid"], old: Preprocessing, new: Preprocessing
) -> Float[Tensor, "n c *grid"]:
    """Inputs that were normalised in the old way, in the new one; on a grid of any number of axes."""
    if (old.mean, old.std) == (new.mean, new.std):
        return inputs
    along = (-1, *(1,) * (inputs.ndim - 2))
    old_mean, old_std, mean, std = (
        inputs.new_tensor(values).view(along) for values in (old.mean, old.std, new.mean, new.std)
    )
    return (inputs * old_std + old_mean - mean) / std


def scorer(
    model: nn.Module, precision: str, *, mirror: bool = False, fast: bool = True, num_images: int | None = None
) -> Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b k"]]:
    """The model as a function from its input to class scores in 32 bits, in evaluation mode, without gradients.

    Args:
        model: On its device.
        precision: A name in PRECISIONS.
        mirror: The mean of the scores of the images and of their mirror images, for twice the time.
        fast: Run the fastest form of the model that gives the same scores, chosen with the first batch.
        num_images: How many there will be, where that is known: many are worth a longer search for that form.

    Raises:
        ConfigError: The precision is unknown.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    device = next(model.parameters()).device
    forms: list[nn.Module] = [] if fast else [model]

    def score(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        was_training = model.training
        model.eval()
        x = x.to(device)
        if not forms:
            forms.append(fastest_form(model, x, dtype=AUTOCAST.get(precision), num_images=num_images))
        (form,) = forms
        # A faster form computes in the precision that it was made for.
        is_cast = form is model and precision in AUTOCAST
        with torch.inference_mode(), torch.autocast(device.type, AUTOCAST.get(precision), is_cast):
            scores = form(x).float()
            if mirror:
                scores = (scores + form(x.flip(-1)).float()) / 2
        model.train(was_training)
        return scores

    return score
