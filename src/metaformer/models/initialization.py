"""First weights, drawn module by module."""

import torch
from torch import nn

from metaformer.block.channel_mlp import ChannelMLP
from metaformer.core.seeding import key_seed


def initialize(model: nn.Module) -> None:
    """Draws all weights anew, each module from a stream of its own.

    The stream is keyed by the module's path and by one number from PyTorch's generator. So `torch.manual_seed` decides
    everything, and two models that differ in the token mixer alone share every other first weight.

    Source: arXiv:2111.11418, the authors' code: truncated normal (0.02) for linear layers and 1x1 convolutions of
    the channel MLP, zero bias; PyTorch's default for the patch embeddings.
    """
    base = int(torch.randint(2**62, (), device="cpu").item())
    pointwise = {id(conv) for mlp in model.modules() if isinstance(mlp, ChannelMLP) for conv in (mlp.fc1, mlp.fc2)}
    with torch.random.fork_rng():
        for path, module in model.named_modules():
            torch.manual_seed(key_seed(base, path))
            if isinstance(module, nn.Linear) or id(module) in pointwise:
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif callable(reset := getattr(module, "reset_parameters", None)):
                reset()
