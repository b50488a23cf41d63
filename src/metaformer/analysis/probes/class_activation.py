"""Where a model looks to answer: Grad-CAM of any model and layer, several models side by side."""

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from PIL import Image as Picture
from torch import Tensor, nn

from metaformer.analysis.anatomy.blocks import find_blocks
from metaformer.analysis.anatomy.features import first_tensor, layout_of
from metaformer.analysis.anatomy.paths import find_module
from metaformer.analysis.anatomy.recording import outputs_of
from metaformer.analysis.probe import Exhibit, Inputs, Journal, concerning
from metaformer.core.errors import ConfigError, MissingExtraError, unknown
from metaformer.core.measurement import Image, Images, Measurement

METHODS = ("grad_cam", "gradient_x_activation")
OPACITY = 0.5  # of the colours over the image, where they are strongest


@dataclass(frozen=True, kw_only=True)
class ClassActivation:
    """What of an image speaks for the class that a model predicts."""

    layer: str = ""  # path; empty: see `choose_layer`
    method: str = "grad_cam"
    num_images: int = 6

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown("method of class activation", self.method, METHODS)
        if self.num_images < 1:
            raise ConfigError(f"ClassActivation.num_images must be at least 1; got {self.num_images}.")

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        images = inputs.first_images(self.num_images)
        mean, std = (torch.tensor(values)[:, None, None] for values in (inputs.mean, inputs.std))
        pixels = (images * std + mean).clamp(0, 1)
        columns: list[list[Image]] = [
            [Image(name=f"image {place + 1}", png_base64=encode_png(image)) for place, image in enumerate(pixels)]
        ]
        concentrated: dict[str, float] = {}
        for done, exhibit in enumerate(exhibits, start=1):
            with concerning(exhibit):
                path = self.layer or choose_layer(exhibit.model, images[:1].to(exhibit.device))
                maps, classes = class_activation(exhibit.model, path, images.to(exhibit.device), method=self.method)
            columns.append(
                [
                    Image(
                        name=f"{exhibit.name}: {_class_name(exhibit, inputs, int(index))}",
                        png_base64=encode_png(overlay(image, heat)),
                    )
                    for image, heat, index in zip(pixels, maps.cpu(), classes, strict=True)
                ]
            )
            concentrated[exhibit.name] = float((maps > 0.5).float().mean())
            journal.show(done, len(exhibits))
        rows = tuple(image for row in zip(*columns, strict=True) for image in row)
        words = [f"{name} {share:.0%}" for name, share in concentrated.items()]
        return Measurement(
            name="class_activation",
            question="Where do models look to answer?",
            finding=f"Share of the image that speaks for the predicted class by more than half of the most: "
            f"{', '.join(words)}.",
            panels=(
                Images(
                    title="What speaks for the predicted class",
                    images=rows,
                    num_columns=len(columns),
                    caption="One row an image, one column a model; under each, the class that it predicts.",
                ),
            ),
            source="Grad-CAM, arXiv:1610.02391, by Captum; side by side as in arXiv:2111.11418, Fig. 4.",
            numbers={f"share of {name}": share for name, share in concentrated.items()},
        )


def class_activation(
    model: nn.Module,
    path: str,
    images: Float[Tensor, "b c h w"],
    *,
    classes: Int64[Tensor, " b"] | None = None,
    method: str = "grad_cam",
) -> tuple[Float[Tensor, "b h w"], Int64[Tensor, " b"]]:
    """Maps of the size of the images, from 0 to 1, and the classes that they are of.

    Args:
        model: In evaluation mode, with class scores.
        path: A layer with a spatial map; channels may be first or last, and a class token may stand in front.
        images: Normalised.
        classes: Whose evidence is shown; None: those that are predicted.
        method: A name in METHODS.

    Raises:
        ConfigError: There is no such layer, or it has no map.
        MissingExtraError: Captum is not installed.
    """
    try:
        from captum.attr import LayerGradCam, LayerGradientXActivation
    except ImportError:
        raise MissingExtraError(need="class activation", extra="analysis") from None
    if classes is None:
        with torch.no_grad():
            scores = model(images)
        if scores.ndim != 2:
            raise ConfigError(f"class activation needs class scores (B, K); the model gives {tuple(scores.shape)}.")
        classes = scores.argmax(dim=1)
    with _tapped(model, path, tuple(images.shape[2:])) as tap, torch.enable_grad():
        inputs = images.clone().requires_grad_(True)
        if method == "grad_cam":
            found = LayerGradCam(model, tap).attribute(inputs, target=classes)
        else:
            found = LayerGradientXActivation(model, tap).attribute(inputs, target=classes).sum(dim=1, keepdim=True)
    heat = first_tensor(found).detach().float().relu()
    heat = nn.functional.interpolate(heat, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    most = heat.amax(dim=(1, 2), keepdim=True)
    return heat / most.clamp_min(1e-12), classes


def choose_layer(model: nn.Module, image: Tensor) -> str:
    """The last residual block with a map of more than one place.

    Where the classifier reads a class token, the places behind the last block reach no score: there it is what the
    block's token mixer reads.

    Raises:
        ConfigError: There is none.
    """
    blocks = find_blocks(model)
    outputs = outputs_of(model, tuple(block.path for block in blocks), image)
    for block in reversed(blocks):
        layout = outputs[block.path][1]
        if len(layout.grid) == 2 and max(layout.grid) > 1:
            return block.part(block.form.entry) if layout.num_prefix else block.path
    raise ConfigError(f"no block of {type(model).__name__} has a spatial map: name a layer.")


def overlay(image: Float[Tensor, "c h w"], heat: Float[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    """The image in grey, with what speaks for the class in colours from blue over yellow to red."""
    grey = image.mean(dim=0).expand(3, -1, -1)
    colours = torch.stack([(2 * heat).clamp(0, 1), 1 - (2 * heat - 1).abs(), (1 - 2 * heat).clamp(0, 1)])
    opacity = OPACITY * (0.3 + 0.7 * heat)
    return (1 - opacity) * grey + opacity * colours


def encode_png(image: Float[Tensor, "c h w"]) -> str:
    """Pixels in [0, 1] as the text of a PNG file."""
    levels = (image * 255).round().clamp(0, 255).byte()
    array = levels[0].numpy() if len(levels) not in (3,) else levels.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Picture.fromarray(array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


@contextmanager
def _tapped(model: nn.Module, path: str, size: tuple[int, ...]) -> Iterator[nn.Module]:
    """While the block runs, the layer's maps go channels first through a module of their own, which Captum looks at."""
    tap = nn.Identity()

    def route(module: nn.Module, _args: Any, out: Any) -> Tensor:
        x = first_tensor(out)
        layout = layout_of(path, module, x, size)
        return layout.restore(tap(layout.maps(x)), x)

    handle = find_module(model, path).register_forward_hook(route)
    try:
        yield tap
    finally:
        handle.remove()


def _class_name(exhibit: Exhibit, inputs: Inputs, index: int) -> str:
    order: Sequence[int] = exhibit.class_index or range(len(inputs.class_names))
    names = dict(zip(order, inputs.class_names, strict=False))
    return names.get(index, f"class {index}")
