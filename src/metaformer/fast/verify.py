"""Whether a faster model is still the same function."""

import torch
from torch import Tensor, nn

# The largest difference of a class score, as a share of the largest score.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}
NUM_FRESH = 2


def fresh_inputs(example: Tensor) -> list[Tensor]:
    """The example, and random inputs of its shape, mean and spread, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    mean, std = float(example.float().mean()), float(example.float().std(correction=0))
    made = [torch.randn(example.shape, generator=generator) * (std or 1.0) + mean for _ in range(NUM_FRESH)]
    # In the example's order of memory: a compiled model is compiled for it.
    return [example, *(torch.empty_like(example).copy_(x) for x in made)]


def largest_difference(model: nn.Module, inputs: list[Tensor], expected: list[Tensor]) -> float:
    """Between the model's outputs and the expected ones, as a share of the largest expected one; inf for a NaN."""
    worst = 0.0
    for x, reference in zip(inputs, expected, strict=True):
        actual = model(x)
        if actual.shape != reference.shape:
            return float("inf")
        difference = (actual.float() - reference.float()).abs().max() / reference.float().abs().max().clamp(min=1e-30)
        worst = max(worst, float(difference.nan_to_num(nan=float("inf"))))
    return worst
