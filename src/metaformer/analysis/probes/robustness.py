"""How accuracy falls under common corruptions, and whether a model knows how sure it may be."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from metaformer.analysis.probe import Exhibit, Inputs, Journal, concerning
from metaformer.core.errors import ConfigError
from metaformer.core.measurement import Axis, Curve, Curves, Line, Measurement, Table, numbers
from metaformer.core.seeding import generator

STRENGTHS = 5
SMALL_PX, LARGE_PX = 32, 224  # sides of the images that the strengths of a blur are told for


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Accuracy under noise, blur, low contrast and JPEG at five strengths; calibration on clean images."""

    num_bins: int = 15  # of confidence

    def __post_init__(self) -> None:
        if self.num_bins < 1:
            raise ConfigError(f"Robustness.num_bins must be at least 1; got {self.num_bins}.")

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        mean, std = (torch.tensor(values)[:, None, None] for values in (inputs.mean, inputs.std))
        cells = [("clean", 0), *((name, strength) for name in CORRUPTIONS for strength in range(1, STRENGTHS + 1))]
        hits = {exhibit.name: dict.fromkeys(cells, 0.0) for exhibit in exhibits}
        sure: dict[str, list[tuple[Tensor, Tensor]]] = {exhibit.name: [] for exhibit in exhibits}
        num_images = 0
        for done, (images, labels) in enumerate(inputs.batches, start=1):
            pixels = (images * std + mean).clamp(0, 1)
            for corruption, strength in cells:
                shown = images if not strength else (corrupt(pixels, corruption, strength, key=done) - mean) / std
                for exhibit in exhibits:
                    with concerning(exhibit):
                        right, confidence = _classify(exhibit, shown, labels)
                    hits[exhibit.name][corruption, strength] += float(right.sum())
                    if not strength:
                        sure[exhibit.name].append((confidence, right))
            num_images += len(images)
            journal.show(done, inputs.num_batches)
        accuracy = {name: {cell: 100 * value / num_images for cell, value in by.items()} for name, by in hits.items()}
        calibrations = {
            name: calibrate(torch.cat([c for c, _ in pairs]), torch.cat([r for _, r in pairs]), num_bins=self.num_bins)
            for name, pairs in sure.items()
        }
        return _measurement(accuracy, calibrations, num_images)


def corrupt(
    pixels: Float[Tensor, "b c h w"], corruption: str, strength: int, *, key: int = 0
) -> Float[Tensor, "b c h w"]:
    """Corrupted images.

    Args:
        pixels: In [0, 1].
        corruption: A name in CORRUPTIONS.
        strength: 1 to 5.
        key: Of the noise: the same key draws the same.

    Source: arXiv:1903.12261, whose strengths these are (gaussian noise, gaussian blur, contrast, JPEG); the blur of
    an image of another size lies between that of CIFAR-10-C and that of ImageNet-C.
    """
    return CORRUPTIONS[corruption](pixels, strength - 1, key).clamp(0, 1)


def _noise(pixels: Tensor, place: int, key: int) -> Tensor:
    size = (0.08, 0.12, 0.18, 0.26, 0.38)[place]
    return pixels + size * torch.randn(pixels.shape, generator=generator("noise", key, place))


def _blur(pixels: Tensor, place: int, _key: int) -> Tensor:
    small, large = (0.4, 0.6, 0.7, 0.8, 1.0)[place], (1, 2, 3, 4, 6)[place]
    share = (min(pixels.shape[2:]) - SMALL_PX) / (LARGE_PX - SMALL_PX)
    sigma = max(0.75 * small, small + share * (large - small))
    most = min(pixels.shape[2:])
    kernel = min(2 * round(4 * sigma) + 1, most - 1 + most % 2)
    return v2.gaussian_blur(pixels, [max(3, kernel)] * 2, [sigma] * 2)


def _contrast(pixels: Tensor, place: int, _key: int) -> Tensor:
    kept = (0.4, 0.3, 0.2, 0.1, 0.05)[place]
    middle = pixels.mean(dim=(2, 3), keepdim=True)
    return (pixels - middle) * kept + middle


def _jpeg(pixels: Tensor, place: int, _key: int) -> Tensor:
    if pixels.shape[1] not in (1, 3):
        raise ConfigError(f"JPEG holds grey or colour images; these have {pixels.shape[1]} channels.")
    quality = (25, 18, 15, 10, 7)[place]
    found = []
    for image in (pixels * 255).round().byte():
        file = io.BytesIO()
        v2.to_pil_image(image).save(file, "JPEG", quality=quality)
        with Image.open(file) as read:
            found.append(v2.pil_to_tensor(read))
    return torch.stack(found).float() / 255


CORRUPTIONS: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "jpeg": _jpeg,
}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Confidence against accuracy."""

    error: float  # expected calibration error, 0 to 1
    confidence: tuple[float, ...]  # mean of each bin that holds images
    accuracy: tuple[float, ...]  # share of right answers in it
    num_images: tuple[int, ...]


def calibrate(confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"], *, num_bins: int = 15) -> Calibration:
    """Bins images by the probability of their predicted class, in bins of equal width.

    Source: expected calibration error of arXiv:1706.04599, Eq. 3.
    """
    places = (confidence * num_bins).ceil().long().clamp(1, num_bins) - 1
    nums = torch.bincount(places, minlength=num_bins).double()
    sums = torch.zeros(num_bins).double().index_add(0, places, confidence.double())
    hits = torch.zeros(num_bins).double().index_add(0, places, right.double())
    held = nums > 0
    error = float((sums - hits).abs().sum() / nums.sum())
    return Calibration(
        error=error,
        confidence=tuple((sums[held] / nums[held]).tolist()),
        accuracy=tuple((hits[held] / nums[held]).tolist()),
        num_images=tuple(int(num) for num in nums[held]),
    )


@torch.no_grad()
def _classify(exhibit: Exhibit, images: Tensor, labels: Int64[Tensor, " b"]) -> tuple[Tensor, Tensor]:
    scores = exhibit.model(images.to(exhibit.device)).float()
    classes = exhibit.classes(labels)
    if scores.ndim != 2 or int(classes.max()) >= scores.shape[1]:
        raise ConfigError(f"the model has no score for each of the classes: it puts out {tuple(scores.shape)}.")
    best = scores.softmax(dim=1).max(dim=1)
    return (best.indices == classes).cpu(), best.values.cpu()


def _measurement(
    accuracy: dict[str, dict[tuple[str, int], float]], calibrations: dict[str, Calibration], num_images: int
) -> Measurement:
    strengths = numbers(float(strength) for strength in range(STRENGTHS + 1))
    panels = [
        Curves(
            title=f"Accuracy under {corruption}",
            x=Axis(title="strength"),
            y=Axis(title="top-1 accuracy (%)"),
            curves=tuple(
                Curve(name=name, x=strengths, y=numbers([by["clean", 0], *_under(by, corruption)]))
                for name, by in accuracy.items()
            ),
        )
        for corruption in CORRUPTIONS
    ]
    reliability = Curves(
        title="Reliability",
        x=Axis(title="confidence"),
        y=Axis(title="accuracy"),
        curves=(
            Curve(name="perfect", x=(0.0, 1.0), y=(0.0, 1.0), role="reference"),
            *(
                Curve(name=name, x=numbers(found.confidence), y=numbers(found.accuracy))
                for name, found in calibrations.items()
            ),
        ),
        lines=(Line(at=0.0),),
        caption="Below the diagonal a model is surer than it may be.",
    )
    rows: list[tuple[str | float | None, ...]] = []
    found: dict[str, float] = {}
    for name, by in accuracy.items():
        means = [sum(_under(by, corruption)) / STRENGTHS for corruption in CORRUPTIONS]
        mean = sum(means) / len(means)
        rows.append((name, by["clean", 0], *means, mean, calibrations[name].error))
        found |= {f"clean of {name}": by["clean", 0], f"corrupted of {name}": mean}
        found[f"calibration error of {name}"] = calibrations[name].error
    table = Table(
        title=f"Accuracy (%) on {num_images} images, in the mean over strengths",
        columns=("model", "clean", *CORRUPTIONS, "all corruptions", "calibration error"),
        rows=tuple(rows),
        digits=(1, 3, *([3] * len(CORRUPTIONS)), 3, 3),
    )
    words = [
        f"{name} {found[f'clean of {name}']:.1f}% clean, {found[f'corrupted of {name}']:.1f}% corrupted"
        for name in accuracy
    ]
    return Measurement(
        name="robustness",
        question="What is left of accuracy under corruptions, and is confidence to be trusted?",
        finding=f"{'; '.join(words)}.",
        panels=(table, *panels, reliability),
        source="Strengths of arXiv:1903.12261; calibration error of arXiv:1706.04599, Eq. 3.",
        numbers=found,
    )


def _under(by: dict[tuple[str, int], float], corruption: str) -> Sequence[float]:
    return [by[corruption, strength] for strength in range(1, STRENGTHS + 1)]
