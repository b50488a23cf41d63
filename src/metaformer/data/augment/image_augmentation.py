"""One image from its file to a training input: decoded, cut, varied, normalised, erased."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.decode.image_file import ImageSource
from metaformer.data.decode.image_transform import ImageTransform

ERASING_MODES = {"random": "pixel", "const": "const"}  # ours -> timm's


class ImageAugmentation:
    """timm's training transforms, with a crop of ours where it is no resized one.

    The transforms draw from the global generators of Python, NumPy and PyTorch: `__call__` sets all three by the
    image's own key first. Who calls it in a process with other randomness keeps that safe by `own_random_state`.

    Source: arXiv:2111.11418, Sec. 4.1, through timm's create_transform.
    """

    def __init__(self, config: AugmentationConfig, transform: ImageTransform) -> None:
        self.config, self._transform = config, transform
        self._crop, self._vary, self._finish = _timm_transforms(config, transform)

    def __call__(self, source: ImageSource, *, key: int, is_flipped: bool | None = None) -> Float[Tensor, "c h w"]:
        """The image as the model sees it this time.

        Args:
            source: The image.
            key: Decides everything that is random.
            is_flipped: Decided elsewhere; None: by the key.

        Raises:
            ImageError: It cannot be read.
        """
        config, transform = self.config, self._transform
        image = transform.read(source)
        _seed_all(key)
        if is_flipped:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if config.crop == "resized":
            image = self._crop(image)
        else:
            image = transform.fit(image)
            if config.crop == "shift":
                image = _shift(image, config.shift_px)
            if is_flipped is None and torch.rand(()) < config.flip:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor: Tensor = self._finish(self._vary(image))
        if config.cutout_px:
            _cut_out(tensor, config.cutout_px)
        return tensor


@contextmanager
def own_random_state() -> Iterator[None]:
    """Python's, NumPy's and PyTorch's generators are afterwards what they were before."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _seed_all(key: int) -> None:
    random.seed(key)
    np.random.seed(key % 2**32)
    # Not torch.manual_seed, which reaches out to accelerators.
    torch.default_generator.manual_seed(key)


def _timm_transforms(config: AugmentationConfig, transform: ImageTransform) -> tuple[Callable[..., Any], ...]:
    from timm.data.transforms_factory import transforms_imagenet_train

    parts: tuple[Callable[..., Any], ...] = transforms_imagenet_train(
        transform.image_size,
        scale=config.scale,
        ratio=config.ratio,
        hflip=0.0 if config.alternating_flip else config.flip,
        color_jitter=config.color_jitter or None,
        auto_augment=config.auto_augment,
        interpolation=config.interpolation,
        mean=tuple(transform.mean.flatten().tolist()),
        std=tuple(transform.std.flatten().tolist()),
        re_prob=config.erasing,
        re_mode=ERASING_MODES[config.erasing_fill],
        separate=True,
    )
    _mend_posterize(parts[1])
    return parts


def _mend_posterize(vary: Any) -> None:
    """Lets timm's strongest posterize, which keeps no bit, work with Pillows that refuse it."""
    from timm.data import auto_augment

    for transform in vary.transforms:
        chains = getattr(transform, "policy", None) or [getattr(transform, "ops", [])]
        for op in (op for chain in chains for op in chain):
            if op.aug_fn is auto_augment.posterize:
                op.aug_fn = _posterize


def _posterize(image: Image.Image, bits_to_keep: int, **_: Any) -> Image.Image:
    if bits_to_keep <= 0:
        # What older Pillows make of it: black.
        return Image.new(image.mode, image.size)
    return image if bits_to_keep >= 8 else ImageOps.posterize(image, bits_to_keep)


def _shift(image: Image.Image, shift_px: int) -> Image.Image:
    left, top = torch.randint(0, 2 * shift_px + 1, (2,)).tolist()
    border = [shift_px] * 4
    # NumPy reflects again where the border is wider than the image.
    pixels = np.asarray(image)
    padded = np.pad(pixels, [(border[0], border[0])] * 2 + [(0, 0)] * (pixels.ndim - 2), mode="reflect")
    return Image.fromarray(np.ascontiguousarray(padded[top : top + image.height, left : left + image.width]))


def _cut_out(image: Float[Tensor, "c h w"], side_px: int) -> None:
    edges = []
    for side in image.shape[1:]:
        start = int(torch.randint(0, side, ())) - side_px // 2
        edges.append(slice(max(0, start), max(0, start + side_px)))
    image[:, edges[0], edges[1]] = 0
