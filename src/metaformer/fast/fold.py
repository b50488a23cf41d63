"""What a block computes, with everything folded that folds exactly: pure tensors, no modules.

A norm's weight and bias go into the layer behind it, LayerScale and StarReLU's numbers into the layer between, a batch
norm's running statistics into its weight and bias. The derivations are in ops/norm_pool and ops/norm_mlp.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metaformer.block.activation import SquaredReLU, StarReLU
from metaformer.block.channel_mlp import ChannelMLP
from metaformer.block.norm import Affine, LayerNorm, ModifiedLayerNorm
from metaformer.block.residual import Residual
from metaformer.ops.norm_convolution.reference import NormConvolution
from metaformer.ops.norm_mlp.reference import NormMLP
from metaformer.ops.norm_pool.reference import NormPool

# A linear layer over the channels of each token; a convolution is one if its window is one token.
Linear = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


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
            return no_norm(like)
        case Affine():
            return FoldedNorm(kind="none", eps=0.0, weight=norm.weight, bias=norm.bias)
        case ModifiedLayerNorm() | LayerNorm():
            kind = "sample" if isinstance(norm, ModifiedLayerNorm) else "token"
            weight: Tensor = norm.weight
            bias = torch.zeros_like(weight) if norm.bias is None else norm.bias
            return FoldedNorm(kind=kind, eps=norm.eps, weight=weight, bias=bias)
        case nn.BatchNorm2d() if norm.running_mean is not None and norm.running_var is not None:
            weight = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            return FoldedNorm(kind="none", eps=0.0, weight=weight, bias=norm.bias - norm.running_mean * weight)
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
        return FoldedActivation(name=name, scale=float(activation.scale), shift=float(activation.bias))
    return FoldedActivation(name=name)


def fold_pooling(norm: FoldedNorm, pool_size: int, residual: Residual) -> NormPool | None:
    """Norm, pooling, LayerScale and residual; the norm's bias cancels. None without a skip connection."""
    if not residual.skip:
        return None
    scale = norm.weight * layer_scale_of(residual, norm.weight)
    return NormPool(scale=scale, res_scale=residual.res_scale, pool_size=pool_size, norm=norm.kind, eps=norm.eps)


def fold_mlp(norm: FoldedNorm, mlp: ChannelMLP, residual: Residual) -> NormMLP | None:
    """Norm, channel MLP, LayerScale and residual; None for an activation that we do not know.

    Autograd follows what is folded here: in training these are the same parameters.
    """
    activation = activation_name(mlp.activation)
    if activation is None:
        return None
    weight1, weight2 = (as_matrix(layer.weight) for layer in (mlp.fc1, mlp.fc2))
    bias1, bias2 = bias_of(mlp.fc1), bias_of(mlp.fc2)
    if isinstance(mlp.activation, StarReLU):
        bias2 = bias2 + mlp.activation.bias * weight2.sum(dim=1)
        weight2 = mlp.activation.scale * weight2
    if residual.layer_scale is not None:
        weight2, bias2 = residual.layer_scale[:, None] * weight2, residual.layer_scale * bias2
    return NormMLP(
        weight1=weight1 * norm.weight,
        bias1=bias1 + weight1 @ norm.bias,
        weight2=weight2,
        bias2=bias2,
        activation=activation,
        norm=norm.kind,
        eps=norm.eps,
        res_scale=residual.res_scale,
        skip=residual.skip,
    )


def fold_linear(norm: FoldedNorm, layer: Linear, activation: FoldedActivation) -> NormConvolution:
    """A norm, a linear layer (or a 1x1 convolution) behind it, an activation behind that."""
    matrix = as_matrix(layer.weight)
    return NormConvolution(
        weight=(matrix * norm.weight)[:, :, None, None],
        bias=bias_of(layer) + matrix @ norm.bias,
        norm=norm.kind,
        eps=norm.eps,
        activation=activation.name,
        act_scale=activation.scale,
        act_shift=activation.shift,
    )


def fold_convolution(norm: FoldedNorm, conv: nn.Conv2d) -> NormConvolution:
    """A norm and a dense convolution behind it; with zeros around the features the norm must have no bias."""
    weight = conv.weight
    bias = bias_of(conv)
    if conv.padding == (0, 0):
        bias = bias + weight.sum(dim=(2, 3)) @ norm.bias
    return NormConvolution(
        weight=weight * norm.weight[:, None, None],
        bias=bias,
        stride=conv.stride[0],
        padding=int(conv.padding[0]),
        norm=norm.kind,
        eps=norm.eps,
    )


def fold_last_linear(layer: Linear, residual: Residual) -> NormConvolution:
    """The last linear layer of a branch, LayerScale and residual."""
    matrix = as_matrix(layer.weight)
    layer_scale = layer_scale_of(residual, matrix[:, 0])
    return NormConvolution(
        weight=(layer_scale[:, None] * matrix)[:, :, None, None],
        bias=layer_scale * bias_of(layer),
        res_scale=residual.res_scale,
    )


def as_matrix(weight: Tensor) -> Tensor:
    """The weight of a linear layer or of a 1x1 convolution as (outputs, inputs)."""
    return weight.flatten(1)


def bias_of(layer: Linear) -> Tensor:
    """The bias of a layer, zeros where it has none."""
    return layer.weight.new_zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias


def layer_scale_of(residual: Residual, like: Tensor) -> Tensor:
    """LayerScale, ones where there is none."""
    return torch.ones_like(like) if residual.layer_scale is None else residual.layer_scale
