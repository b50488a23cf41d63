"""First weights, drawn module by module."""

from typing import TypeGuard

import torch
from torch import nn

from metaformer.core.seeding import key_seed


def draw_base() -> int:
    """One number from PyTorch's generator, drawn before anything is built: building draws from it too."""
    return int(torch.randint(2**62, (), device="cpu").item())


def initialize(model: nn.Module, base: int, std: float | None = 0.02, *, all_convolutions: bool = False) -> None:
    """Draws all weights anew, each module from a stream of its own.

    The stream is keyed by the module's path and by `base`. So `torch.manual_seed` decides everything, and two models
    that differ in the token mixer alone share every other first weight.

    Args:
        model: Changed in place.
        base: Key of all streams.
        std: Of the truncated normal for linear layers and 1x1 convolutions; None takes 1/sqrt(fan-in), which suits
            narrow models.
        all_convolutions: Whether convolutions over several tokens start like that too; else they keep PyTorch's own.

    Source: the authors' code. Truncated normal (0.02) and zero bias: in arXiv:2111.11418 for linear layers and 1x1
    convolutions, with PyTorch's default for the patch embeddings; in arXiv:2210.13452 for every convolution.
    """
    # torch.manual_seed reaches every device; until CUDA starts it keeps a stack trace of each call, which is slow.
    on_cpu = {tensor.device.type for tensor in model.state_dict().values()} <= {"cpu", "meta"}
    seed = torch.default_generator.manual_seed if on_cpu else torch.manual_seed
    with torch.random.fork_rng():
        for path, module in model.named_modules():
            seed(key_seed(base, path))
            if isinstance(module, nn.Linear) or _is_drawn(module, all_convolutions):
                nn.init.trunc_normal_(module.weight, std=std or module.weight[0].numel() ** -0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif callable(reset := getattr(module, "reset_parameters", None)):
                reset()


def _is_drawn(module: nn.Module, all_convolutions: bool) -> TypeGuard[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return False
    return all_convolutions or (set(module.kernel_size) == {1} and module.groups == 1)
