"""A model's weights drawn anew, for any module."""

import torch
from torch import nn


@torch.no_grad()
def redraw(model: nn.Module) -> nn.Module:
    """Draws all weights again, in place, from PyTorch's generator; returns the model.

    Layers that can draw themselves (`reset_parameters`) do. Other parameters, as a position embedding, keep their
    values in a random order: their distribution stays, and what they learned goes.
    """
    drawn: set[int] = set()
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            drawn.update(id(tensor) for tensor in module.parameters(recurse=False))
    for parameter in model.parameters():
        if id(parameter) not in drawn:
            order = torch.randperm(parameter.numel()).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return model
