"""What a block computes in evaluation mode, with everything folded that folds exactly: pure tensors, no modules.

A norm's weight and bias go into the layer behind it, LayerScale and StarReLU's numbers into the layer between, a batch
norm's running statistics into its weight and bias. The derivations are in ops/norm_pool and ops/norm_mlp.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metaformer.block.activation import SquaredReLU, StarReLU
from metaformer.block.channel_mlp import ChannelMLP
from metaformer.block.norm import LayerNorm, ModifiedLayerNorm
from metaformer.block.residual import Residual


@dataclass(frozen=True, kw_only=True)
class FoldedNorm:
    """A norm as its kind, and weight and bias, which the next layer takes over."""

    kind: str  # a name in ops.normalise.NORM_KINDS
    eps: float
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, kw_only=True)
class FoldedActivation:
    """scale * f(x) + shift."""

    name: str  # a name in ops.norm_mlp.reference.ACTIVATIONS
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FoldedPooling:
    """The arguments of ops.norm_pool."""

    scale: Tensor
    res_scale: Tensor | None
    pool_size: int
    norm: str
    eps: float


@dataclass(frozen=True, kw_only=True)
class FoldedMLP:
    """The arguments of ops.norm_mlp."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    activation: str
    norm: str
    eps: float
    res_scale: Tensor | None
    skip: bool


@dataclass(frozen=True, kw_only=True)
class FoldedConvolution:
    """The arguments of ops.norm_convolution; a linear layer has a 1x1 kernel."""

    weight: Tensor  # (out, in, kernel rows, kernel columns)
    bias: Tensor
    stride: int = 1
    padding: int = 0
    norm: str = "none"
    eps: float = 1e-5
    activation: FoldedActivation = FoldedActivation(name="none")
    res_scale: Tensor | None = None
    post_weight: Tensor | None = None  # of a layer norm behind it; None: no such norm
    post_bias: Tensor | None = None
    post_eps: float = 1e-5


def no_norm(like: Tensor) -> FoldedNorm:
    """A norm that does nothing, where a tensor with one number a channel is."""
    return FoldedNorm(kind="none", eps=0.0, weight=torch.ones_like(like), bias=torch.zeros_like(like))


def fold_norm(norm: nn.Module, like: Tensor) -> FoldedNorm | None:
    """A norm of ours or a batch norm, for evaluation; None for one that we do not know.

    Args:
        norm: The module.
        like: A tensor with one number a channel, where the weights are.
    """
    match norm:
        case nn.Identity():
            return no_norm(like.detach())
        case ModifiedLayerNorm() | LayerNorm():
            kind = "sample" if isinstance(norm, ModifiedLayerNorm) else "token"
            weight = norm.weight.detach()
            bias = torch.zeros_like(weight) if norm.bias is None else norm.bias.detach()
            return FoldedNorm(kind=kind, eps=norm.eps, weight=weight, bias=bias)
        case nn.BatchNorm2d() if norm.running_mean is not None and norm.running_var is not None:
            weight = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
            return FoldedNorm(kind="none", eps=0.0, weight=weight, bias=norm.bias.detach() - norm.running_mean * weight)
        case _:
            return None


def activation_name(activation: nn.Module) -> str | None:
    """The function inside an activation of ours, a name in ops.norm_mlp.reference.ACTIVATIONS; None for another."""
    match activation:
        case nn.GELU() if activation.approximate == "none":
            return "gelu"
        case nn.ReLU():
            return "relu"
        case nn.SiLU():
            return "silu"
        case SquaredReLU() | StarReLU():
            return "squared_relu"
        case _:
            return None


def fold_activation(activation: nn.Module) -> FoldedActivation | None:
    """An activation of ours, for evaluation; None for one that we do not know."""
    name = activation_name(activation)
    if name is None:
        return None
    if isinstance(activation, StarReLU):
        return FoldedActivation(
            name=name, scale=float(activation.scale.detach()), shift=float(activation.bias.detach())
        )
    return FoldedActivation(name=name)


def fold_pooling(norm: FoldedNorm, pool_size: int, residual: Residual) -> FoldedPooling | None:
    """Norm, pooling, LayerScale and residual; the norm's bias cancels. None without a skip connection."""
    if not residual.skip:
        return None
    scale = norm.weight * layer_scale_of(residual, norm.weight)
    return FoldedPooling(
        scale=scale, res_scale=res_scale_of(residual), pool_size=pool_size, norm=norm.kind, eps=norm.eps
    )


def fold_mlp(norm: FoldedNorm, mlp: ChannelMLP, residual: Residual) -> FoldedMLP | None:
    """Norm, channel MLP, LayerScale and residual; None for an activation that we do not know."""
    activation = fold_activation(mlp.activation)
    if activation is None:
        return None
    first, second = (as_matrix(layer.weight) for layer in (mlp.fc1, mlp.fc2))
    layer_scale = layer_scale_of(residual, second[:, 0])
    bias1, bias2 = bias_of(mlp.fc1), bias_of(mlp.fc2) + activation.shift * second.sum(dim=1)
    return FoldedMLP(
        weight1=first * norm.weight,
        bias1=bias1 + first @ norm.bias,
        weight2=layer_scale[:, None] * second * activation.scale,
        bias2=layer_scale * bias2,
        activation=activation.name,
        norm=norm.kind,
        eps=norm.eps,
        res_scale=res_scale_of(residual),
        skip=residual.skip,
    )


def fold_linear(norm: FoldedNorm, layer: nn.Linear | nn.Conv2d, activation: FoldedActivation) -> FoldedConvolution:
    """A norm, a linear layer (or a 1x1 convolution) behind it, an activation behind that."""
    matrix = as_matrix(layer.weight)
    return FoldedConvolution(
        weight=(matrix * norm.weight)[:, :, None, None],
        bias=bias_of(layer) + matrix @ norm.bias,
        norm=norm.kind,
        eps=norm.eps,
        activation=activation,
    )


def fold_convolution(norm: FoldedNorm, conv: nn.Conv2d) -> FoldedConvolution:
    """A norm and a dense convolution behind it; with zeros around the features the norm must have no bias."""
    weight = conv.weight.detach()
    bias = bias_of(conv)
    if conv.padding == (0, 0):
        bias = bias + weight.sum(dim=(2, 3)) @ norm.bias
    return FoldedConvolution(
        weight=weight * norm.weight[:, None, None],
        bias=bias,
        stride=conv.stride[0],
        padding=int(conv.padding[0]),
        norm=norm.kind,
        eps=norm.eps,
    )


def fold_last_linear(layer: nn.Linear | nn.Conv2d, residual: Residual) -> FoldedConvolution:
    """The last linear layer of a branch, LayerScale and residual."""
    matrix = as_matrix(layer.weight)
    layer_scale = layer_scale_of(residual, matrix[:, 0])
    return FoldedConvolution(
        weight=(layer_scale[:, None] * matrix)[:, :, None, None],
        bias=layer_scale * bias_of(layer),
        res_scale=res_scale_of(residual),
    )


def as_matrix(weight: Tensor) -> Tensor:
    """The weight of a linear layer or of a 1x1 convolution as (outputs, inputs)."""
    return weight.detach().flatten(1)


def bias_of(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """The bias of a layer, zeros where it has none."""
    return layer.weight.new_zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias.detach()


def layer_scale_of(residual: Residual, like: Tensor) -> Tensor:
    """LayerScale, ones where there is none."""
    return torch.ones_like(like) if residual.layer_scale is None else residual.layer_scale.detach()


def res_scale_of(residual: Residual) -> Tensor | None:
    """ResScale, None where there is none."""
    return None if residual.res_scale is None else residual.res_scale.detach()
