"""The basic steps on a GPU: our Triton kernels for both halves of a PoolFormer block, PyTorch for the rest."""

import torch
from torch import Tensor, nn

from metaformer.fast.fold import FoldedConvolution, FoldedMLP, FoldedPooling
from metaformer.fast.plain import PlainBackend
from metaformer.fast.steps import KeepsDtype, Step
from metaformer.ops.norm_mlp import triton as mlp_kernels
from metaformer.ops.norm_pool import triton as pool_kernels
from metaformer.ops.normalise import sample_moments


class TritonBackend:
    """Builds steps in a dtype; those that the kernels do not cover are PyTorch's."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.plain = PlainBackend(dtype, sliced_pooling=False)

    def pooling(self, folded: FoldedPooling, want_moments: bool) -> nn.Module:
        # A norm of each token changes within the window.
        return self.plain.pooling(folded, want_moments) if folded.norm == "token" else TritonPooling(folded)

    def mlp(self, folded: FoldedMLP, want_moments: bool) -> nn.Module:
        fits = folded.norm == "sample" and folded.skip and len(folded.bias2) <= mlp_kernels.MOST_CHANNELS
        return TritonMLP(folded, self.dtype) if fits else self.plain.mlp(folded, want_moments)

    def convolution(self, folded: FoldedConvolution, want_moments: bool) -> nn.Module:
        return self.plain.convolution(folded, want_moments)

    def depthwise(self, weight: Tensor, bias: Tensor) -> nn.Module:
        return self.plain.depthwise(weight, bias)


class TritonPooling(KeepsDtype):
    """The pooling sub-block in one pass, the moments of the result included."""

    scale: Tensor
    res_scale: Tensor | None

    def __init__(self, folded: FoldedPooling) -> None:
        super().__init__()
        self.pool_size, self.norm, self.eps = folded.pool_size, folded.norm, folded.eps
        self.register_buffer("scale", folded.scale.float())
        self.register_buffer("res_scale", None if folded.res_scale is None else folded.res_scale.float())

    def forward(self, x: Tensor, moments: Tensor | None) -> Step:
        if self.norm == "none":
            gain = torch.ones(x.shape[0], device=x.device)
        else:
            moments = sample_moments(x) if moments is None else moments
            gain = torch.rsqrt(moments[:, 1] + self.eps)
        launch = pool_kernels.fastest_launch(x, self.pool_size)
        return pool_kernels.forward(x, gain, self.scale, self.res_scale, self.pool_size, launch)


class TritonMLP(KeepsDtype):
    """The channel MLP sub-block in one pass, the moments of the result included."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    res_scale: Tensor | None

    def __init__(self, folded: FoldedMLP, dtype: torch.dtype) -> None:
        super().__init__()
        self.activation, self.eps = folded.activation, folded.eps
        self.register_buffer("weight1", folded.weight1.to(dtype).contiguous())
        self.register_buffer("bias1", folded.bias1.float())
        self.register_buffer("weight2", folded.weight2.to(dtype).contiguous())
        self.register_buffer("bias2", folded.bias2.float())
        self.register_buffer("res_scale", None if folded.res_scale is None else folded.res_scale.float())

    def forward(self, x: Tensor, moments: Tensor | None) -> Step:
        batch, channels, height, width = x.shape
        moments = sample_moments(x) if moments is None else moments
        # A view where the channels lie together, as they do behind our pooling.
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        y, sums = mlp_kernels.forward(
            rows,
            moments,
            tokens=height * width,
            weight1=self.weight1,
            bias1=self.bias1,
            weight2=self.weight2,
            bias2=self.bias2,
            activation=self.activation,
            eps=self.eps,
            res_scale=self.res_scale,
            factor=None,
            launch=mlp_kernels.fastest_launch(rows, len(self.bias1), self.weight1.dtype),
        )
        totals = sums.view(batch, -1, 2).sum(dim=1, dtype=torch.float64) / (height * width * channels)
        variance = (totals[:, 1] - totals[:, 0].square()).clamp(min=0)
        y = y.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return y, torch.stack([totals[:, 0], variance], dim=1).float()
