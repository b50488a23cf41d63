"""How curved the loss is around a model: the largest eigenvalues of the Hessian, and the density of all."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from metaformer.analysis.probe import Batch, Exhibit, Inputs, Journal, concerning
from metaformer.core.errors import ConfigError, MissingExtraError
from metaformer.core.measurement import Axis, Curve, Curves, Histogram, Measurement, Panel, numbers

NUM_BINS = 41


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """The top eigenvalues of each batch, and the spectral density of one, of loss and weight decay."""

    num_batches: int = 1  # of augmented images; the paper pools many
    batch_size: int = 16
    num_eigenvalues: int = 5
    weight_decay: float = 0.05  # its curvature is added to every eigenvalue
    num_lanczos: int = 20  # steps of the density; 0: no density

    def __post_init__(self) -> None:
        if min(self.num_batches, self.batch_size, self.num_eigenvalues) < 1 or self.num_lanczos < 0:
            raise ConfigError(
                "Curvature.num_batches, batch_size and num_eigenvalues must be at least 1, num_lanczos at least 0."
            )

    def measure(self, exhibits: tuple[Exhibit, ...], inputs: Inputs, journal: Journal) -> Measurement:
        if inputs.augmented is None:
            raise ConfigError("curvature is of the loss that training saw: give Inputs.augmented.")
        batches = Inputs(batches=inputs.augmented, num_batches=0).first_batches(self.num_batches * self.batch_size)
        batches = _regrouped(batches, self.batch_size)
        eigenvalues: dict[str, list[float]] = {}
        densities: list[Curve] = []
        done, total = 0, len(exhibits) * (len(batches) + bool(self.num_lanczos))
        for exhibit in exhibits:
            for place, (images, labels) in enumerate(batches):
                key = f"{exhibit.name} {place}".replace("/", " ")
                values = journal.kept(key)
                if values is None:
                    with concerning(exhibit):
                        hessian = hessian_of(exhibit.model, images.to(exhibit.device), exhibit.classes(labels))
                        values = [float(v) + self.weight_decay for v in top_eigenvalues(hessian, self.num_eigenvalues)]
                    journal.keep(key, values)
                eigenvalues.setdefault(exhibit.name, []).extend(values)
                done += 1
                journal.show(done, total)
            if self.num_lanczos:
                densities.append(self._density(exhibit, batches[0]))
                done += 1
                journal.show(done, total)
        return _measurement(eigenvalues, densities)

    def _density(self, exhibit: Exhibit, batch: Batch) -> Curve:
        from curvlinops import lanczos_approximate_spectrum

        hessian = hessian_of(exhibit.model, batch[0].to(exhibit.device), exhibit.classes(batch[1]))
        grid, density = lanczos_approximate_spectrum(
            hessian, min(self.num_lanczos, hessian.shape[0] - 1), num_points=256
        )
        return Curve(
            name=exhibit.name,
            x=numbers((torch.as_tensor(grid) + self.weight_decay).tolist()),
            y=numbers(torch.as_tensor(density).tolist()),
        )


class _NormInParts(TorchFunctionMode):
    """Group norm written out: the derivative of PyTorch's own derivative of it does not exist forwards."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _group_norm(*args, **(kwargs or {})) if func is F.group_norm else func(*args, **(kwargs or {}))


def _group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    parts = x.reshape(x.shape[0], num_groups, -1)
    centred = parts - parts.mean(dim=2, keepdim=True)
    out = (centred * (centred.square().mean(dim=2, keepdim=True) + eps).rsqrt()).reshape(x.shape)
    column = (1, -1, *([1] * (x.ndim - 2)))
    out = out if weight is None else out * weight.view(column)
    return out if bias is None else out + bias.view(column)


class _Plain(nn.Module):
    """A model of operators that have second derivatives."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with _NormInParts(), sdpa_kernel(SDPBackend.MATH):
            out: Tensor = self.model(x)
        return out


def hessian_of(model: nn.Module, images: Tensor, classes: Tensor) -> Any:
    """The Hessian of the cross-entropy of a batch, as curvlinops' linear operator, over all trained parameters.

    On a copy in evaluation mode: batch statistics and dropped paths would change from product to product.

    Args:
        model: Of plain operators; the fused ones of a fast path have no second derivative.
        images: A batch.
        classes: One an image, or shares (B, K).

    Raises:
        MissingExtraError: curvlinops is not installed.
    """
    try:
        with warnings.catch_warnings():
            # One of its dependencies compiles by torch.jit at import, PyTorch at the first forward derivative.
            warnings.simplefilter("ignore", FutureWarning)
            from curvlinops import HessianLinearOperator

            torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))
    except ImportError:
        raise MissingExtraError(need="curvature", extra="analysis") from None
    plain = _Plain(deepcopy(model)).eval()
    params = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    with sdpa_kernel(SDPBackend.MATH):
        return HessianLinearOperator(
            plain, nn.CrossEntropyLoss(), params, [(images, classes)], check_deterministic=False
        )


def top_eigenvalues(hessian: Any, num: int) -> list[float]:
    """The eigenvalues of the largest size, signs kept, the largest first."""
    from scipy.sparse.linalg import eigsh

    operator = hessian.to_scipy()
    # A start of its own, so that the same model gives the same numbers.
    start = np.random.default_rng(0).standard_normal(operator.shape[0]).astype(np.float32)
    with sdpa_kernel(SDPBackend.MATH):
        values = eigsh(operator, k=num, which="LM", tol=1e-3, v0=start, return_eigenvectors=False)
    return sorted((float(value) for value in values), key=abs, reverse=True)


def _regrouped(batches: Sequence[Batch], size: int) -> list[Batch]:
    images, labels = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    return list(zip(images.split(size), labels.split(size), strict=True))


def _measurement(eigenvalues: dict[str, list[float]], densities: Sequence[Curve]) -> Measurement:
    found: dict[str, float] = {}
    words = []
    for name, values in eigenvalues.items():
        positive = [value for value in values if value > 0]
        found[f"share of negative eigenvalues of {name}"] = 1 - len(positive) / len(values)
        found[f"mean positive eigenvalue of {name}"] = sum(positive) / max(1, len(positive))
        found[f"largest eigenvalue of {name}"] = max(values, key=abs)
        words.append(
            f"{name} {found[f'largest eigenvalue of {name}']:.3g}, "
            f"{found[f'share of negative eigenvalues of {name}']:.0%} of the top negative"
        )
    low = min(min(values) for values in eigenvalues.values())
    high = max(max(values) for values in eigenvalues.values())
    edges = [low + (high - low + 1e-9) * place / NUM_BINS for place in range(NUM_BINS + 1)]
    heights = tuple(numbers((np.histogram(values, edges)[0] / len(values)).tolist()) for values in eigenvalues.values())
    panels: list[Panel] = [
        Histogram(
            title="Largest eigenvalues of the Hessian, of all batches",
            x=Axis(title="eigenvalue"),
            y=Axis(title="share"),
            edges=tuple(edges),
            heights=heights,
            names=tuple(eigenvalues),
        )
    ]
    if densities:
        panels.append(
            Curves(
                title="Spectral density of the Hessian",
                x=Axis(title="eigenvalue"),
                y=Axis(title="density", scale="log"),
                curves=tuple(densities),
                caption="By Lanczos quadrature, of the first batch.",
            )
        )
    return Measurement(
        name="curvature",
        question="How curved is the loss, and in how many directions does it fall?",
        finding=f"Largest eigenvalue: {'; '.join(words)}.",
        panels=tuple(panels),
        source="arXiv:2202.06709, Figs. 1c and 4: top eigenvalues of batches of augmented images, pooled, with weight "
        "decay, whose curvature is added exactly. By Lanczos instead of power iteration; in evaluation mode.",
        numbers=found,
    )
