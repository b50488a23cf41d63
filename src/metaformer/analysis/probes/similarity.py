"""How alike two layers see the same images: centred kernel alignment (CKA), within a model and between models."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from metaformer.analysis.anatomy.blocks import find_blocks
from metaformer.analysis.anatomy.features import Layout
from metaformer.analysis.anatomy.paths import match_paths
from metaformer.analysis.anatomy.recording import watching
from metaformer.analysis.probe import Exhibit, Inputs, Journal, concerning
from metaformer.core.errors import ConfigError
from metaformer.core.measurement import Axis, Heatmap, Measurement, numbers

FEWEST = 4  # samples that the unbiased estimate needs
CHUNK = 1 << 16  # features of a sample that are multiplied in 64 bits at once
# Of the mean square of features: where they vary by less, they are constant up to rounding.
CONSTANT = 1e-12


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """CKA of layers, summed over batches of any number of images."""

    layers: tuple[str, ...] = ()  # paths or patterns with *; none: what each residual block puts out

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        paths: dict[str, tuple[str, ...]] = {}
        for exhibit in exhibits:
            with concerning(exhibit):
                paths[exhibit.name] = self._paths(exhibit)
        alignment = Alignment()
        for done, (images, _) in enumerate(inputs.batches, start=1):
            kernels = []
            for exhibit in exhibits:
                kernels += _kernels(exhibit, paths[exhibit.name], images)
            alignment.add(torch.stack(kernels))
            journal.show(done, inputs.num_batches)
        places = [(exhibit.name, path) for exhibit in exhibits for path in paths[exhibit.name]]
        return _measurement(exhibits, places, alignment.values([f"{path} of {name}" for name, path in places]))

    def _paths(self, exhibit: Exhibit) -> tuple[str, ...]:
        if self.layers:
            return match_paths(exhibit.model, self.layers)
        return tuple(block.path for block in find_blocks(exhibit.model))


class Alignment:
    """CKA of every pair of layers, from one batch after the other: memory does not grow with the number of images.

    Source: arXiv:2010.15327, Eqs. 2-3: the unbiased HSIC of each batch, summed over batches before the ratio.
    """

    def __init__(self) -> None:
        self._hsic: Tensor | None = None

    def add(self, kernels: Float[Tensor, "l n n"]) -> None:
        """Books one batch of n images.

        Args:
            kernels: For each layer, the inner products of the features of every two images.

        Raises:
            ConfigError: There are fewer than 4 images.
        """
        hsic = unbiased_hsic(kernels)
        self._hsic = hsic if self._hsic is None else self._hsic + hsic

    def values(self, names: Sequence[str]) -> Float[Tensor, "l l"]:
        """CKA of every two layers, at most 1 up to rounding.

        Args:
            names: Of the layers, for messages.

        Raises:
            ConfigError: No batch was seen, or a layer does not vary from image to image.
        """
        if self._hsic is None:
            raise ConfigError("CKA needs images; there are none.")
        own = self._hsic.diagonal()
        for name, value in zip(names, own.tolist(), strict=True):
            if not value > 0:
                raise ConfigError(
                    f"CKA is not defined for {name}: its features do not vary from image to image, or too few images "
                    "tell. Leave the layer out, or give more images."
                )
        return self._hsic / (own[:, None] * own[None, :]).sqrt()


def unbiased_hsic(kernels: Float[Tensor, "l n n"]) -> Float[Tensor, "l l"]:
    """The unbiased Hilbert-Schmidt independence criterion of every two kernels.

    Args:
        kernels: Inner products of the features of n images, in 64 bits.

    Raises:
        ConfigError: n is below 4.

    Source: arXiv:2010.15327, Eq. 3, after Song et al. (2012).
    """
    num = kernels.shape[-1]
    if num < FEWEST:
        raise ConfigError(f"CKA needs at least {FEWEST} images in every batch; got {num}. Change the batch size.")
    kernels = kernels - torch.diag_embed(kernels.diagonal(dim1=1, dim2=2))
    flat, rows = kernels.flatten(1), kernels.sum(dim=2)
    sums = rows.sum(dim=1)
    traces = flat @ flat.T
    products = sums[:, None] * sums[None, :] / ((num - 1) * (num - 2))
    return (traces + products - 2 / (num - 2) * rows @ rows.T) / (num * (num - 3))


def kernel_of(features: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"]:
    """Inner products of the features of every two samples, in 64 bits.

    The mean over samples is taken away first: the unbiased HSIC does not see it, and digits are saved.
    """
    x = features.flatten(1)
    x = x - x.mean(dim=0)
    scale = features.square().mean()
    if x.square().mean() <= CONSTANT * scale:
        return torch.zeros(len(x), len(x), dtype=torch.float64)
    kernel = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
    for part in x.split(CHUNK, dim=1):
        wide = part.double()
        kernel += wide @ wide.T
    return kernel.cpu()


@torch.no_grad()
def _kernels(exhibit: Exhibit, paths: tuple[str, ...], images: Tensor) -> list[Tensor]:
    """One a layer; features are forgotten as soon as they are multiplied."""
    found: dict[str, Tensor] = {}

    def see(path: str, x: Tensor, _layout: Layout) -> None:
        found[path] = kernel_of(x)

    with ExitStack() as stack:
        stack.enter_context(watching(exhibit.model, paths, see, tuple(images.shape[2:])))
        exhibit.model(images.to(exhibit.device))
    missing = [path for path in paths if path not in found]
    if missing:
        raise ConfigError(f"the layer {missing[0]!r} of {exhibit.name} did not run: the model does not use it.")
    return [found[path] for path in paths]


def _measurement(
    exhibits: Sequence[Exhibit], places: Sequence[tuple[str, str]], values: Float[Tensor, "l l"]
) -> Measurement:
    of = {
        exhibit.name: [place for place, (name, _) in enumerate(places) if name == exhibit.name] for exhibit in exhibits
    }
    panel = partial(_panel, places=places, of=of, values=values)
    names = [exhibit.name for exhibit in exhibits]
    found = {f"uniformity of {name}": _uniformity(values[of[name]][:, of[name]]) for name in names}
    words = [f"{name} {found[f'uniformity of {name}']:.2f}" for name in names]
    return Measurement(
        name="similarity",
        question="Which layers see images alike?",
        finding=f"Mean CKA of the lower with the upper half of the layers: {', '.join(words)}.",
        panels=(*(panel(name, name) for name in names), *(panel(a, b) for a, b in combinations(names, 2))),
        source="Minibatch CKA with the unbiased HSIC, arXiv:2010.15327, Eqs. 2-3; read as in arXiv:2108.08810, Fig. 1.",
        numbers=found,
    )


def _uniformity(values: Float[Tensor, "l l"]) -> float:
    half = len(values) // 2
    return float(values[:half, len(values) - half :].mean()) if half else 1.0


def _panel(
    first: str, second: str, *, places: Sequence[tuple[str, str]], of: dict[str, list[int]], values: Tensor
) -> Heatmap:
    block = values[of[first]][:, of[second]]
    return Heatmap(
        title=f"CKA within {first}" if first == second else f"CKA between {first} and {second}",
        x=Axis(title=f"layer of {second}", categories=tuple(places[place][1] for place in of[second])),
        y=Axis(title=f"layer of {first}", categories=tuple(places[place][1] for place in of[first])),
        values=tuple(numbers(row) for row in block.tolist()),
        low=0.0,
        high=1.0,
        caption="1: the same up to rotation and scale; 0: unrelated. Small samples may give values just outside.",
    )
