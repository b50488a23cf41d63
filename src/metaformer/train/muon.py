"""Muon: momentum whose direction is made orthogonal, for matrices; AdamW for the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Of the quintic iteration, chosen by its author for a steep start.
A, B, C = 3.4445, -4.7750, 2.0315
NUM_ITERATIONS = 5
# A typical update of AdamW is so large, root mean square; with it one learning rate serves both.
ADAMW_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Orthogonal momentum for weights with a fan-in above one; AdamW for biases, scales and depthwise kernels.

    PyTorch and timm have Muon too, but compute its matrix products in bfloat16, which processors without such units
    emulate: there a step of a small model takes three times as long. Here they have the precision of the weights.

    Source: K. Jordan et al., Muon (2024); the scale of the update, arXiv:2502.16982, Sec. 2.2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; weight decay is decoupled."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                state, gradient = self.state[weight], weight.grad
                is_matrix = weight.ndim >= 2 and weight[0].numel() > 1 and not _is_depthwise(weight)
                update = (_orthogonal if is_matrix else _adam)(gradient, state, group)
                weight.sub_(update, alpha=group["lr"])
        return loss


def orthogonalise(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """The matrix with all singular values brought near 1, by Newton and Schulz's iteration."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(NUM_ITERATIONS):
        square = x @ x.T
        x = A * x + (B * square + C * square @ square) @ x
    return x.T if is_tall else x


def _orthogonal(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
    momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
    # Nesterov: where the momentum will be.
    ahead = gradient.lerp(momentum, group["momentum"]).flatten(1)
    scale = ADAMW_RMS * max(ahead.shape) ** 0.5
    return scale * orthogonalise(ahead).view_as(gradient)


def _adam(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    if not state:
        state.update(step=torch.zeros(()), mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
    state["step"] += 1
    beta1, beta2 = group["betas"]
    mean = state["mean"].lerp_(gradient, 1 - beta1)
    square = state["square"].lerp_(gradient.square(), 1 - beta2)
    step = float(state["step"])
    return (mean / (1 - beta1**step)) / ((square / (1 - beta2**step)).sqrt() + group["eps"])


def _is_depthwise(weight: Tensor) -> bool:
    return weight.ndim == 4 and weight.shape[1] == 1
