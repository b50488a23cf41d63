"""The basic steps by our C++ operators: weights packed once, in float32; features stored in their own dtype."""

from torch import Tensor, nn

from metaformer.fast.fold import FoldedConvolution, FoldedMLP, FoldedPooling
from metaformer.fast.steps import KeepsDtype, Step
from metaformer.ops.depthwise.operator import depthwise
from metaformer.ops.native.library import NativeLibrary
from metaformer.ops.native.packing import fill_up, pack_blocks, pack_depthwise, pack_panels
from metaformer.ops.norm_convolution.operator import norm_convolution
from metaformer.ops.norm_mlp.operator import norm_mlp
from metaformer.ops.norm_pool.operator import norm_pool
from metaformer.ops.normalise import sample_moments


class NativeBackend:
    """Builds steps for a compiled library."""

    def __init__(self, library: NativeLibrary) -> None:
        self.library = library

    def pooling(self, folded: FoldedPooling, want_moments: bool) -> nn.Module:
        return NativePooling(folded, want_moments)

    def mlp(self, folded: FoldedMLP, want_moments: bool) -> nn.Module:
        return NativeMLP(folded, want_moments, self.library.tile_columns)

    def convolution(self, folded: FoldedConvolution, want_moments: bool) -> nn.Module:
        return NativeConvolution(folded, want_moments, self.library.tile_columns)

    def depthwise(self, weight: Tensor, bias: Tensor) -> nn.Module:
        return NativeDepthwise(weight, bias, self.library.lanes)


class NativePooling(KeepsDtype):
    """The pooling sub-block."""

    scale: Tensor
    res_scale: Tensor | None

    def __init__(self, folded: FoldedPooling, want_moments: bool) -> None:
        super().__init__()
        self.pool_size, self.norm, self.eps = folded.pool_size, folded.norm, folded.eps
        self.want_moments = want_moments
        self.register_buffer("scale", _float(folded.scale))
        self.register_buffer("res_scale", _float_or_none(folded.res_scale))

    def forward(self, x: Tensor, moments: Tensor | None) -> Step:
        moments = _moments_for(self.norm, x, moments)
        args = (self.scale, self.res_scale, self.pool_size, self.norm, self.eps, self.want_moments)
        y, y_moments = norm_pool(x, moments, *args)
        return y, y_moments if self.want_moments else None


class NativeMLP(KeepsDtype):
    """The channel MLP sub-block."""

    fc1: Tensor
    bias1: Tensor
    fc2: Tensor
    bias2: Tensor
    res_scale: Tensor | None

    def __init__(self, folded: FoldedMLP, want_moments: bool, tile_columns: int) -> None:
        super().__init__()
        self.hidden, self.skip, self.want_moments = folded.weight1.shape[0], folded.skip, want_moments
        self.activation, self.norm, self.eps = folded.activation, folded.norm, folded.eps
        self.register_buffer("fc1", pack_panels(_float(folded.weight1), tile_columns))
        self.register_buffer("bias1", fill_up(_float(folded.bias1), tile_columns))
        self.register_buffer("fc2", pack_blocks(_float(folded.weight2), tile_columns))
        self.register_buffer("bias2", fill_up(_float(folded.bias2), tile_columns))
        self.register_buffer("res_scale", _float_or_none(folded.res_scale))

    def forward(self, x: Tensor, moments: Tensor | None) -> Step:
        moments = _moments_for(self.norm, x, moments)
        weights = (self.fc1, self.bias1, self.fc2, self.bias2, self.res_scale, self.hidden)
        options = (self.activation, self.norm, self.eps, self.skip, self.want_moments)
        y, y_moments = norm_mlp(x, moments, *weights, *options)
        return y, y_moments if self.want_moments else None


class NativeConvolution(KeepsDtype):
    """A convolution, or a linear layer, with what surrounds it."""

    panels: Tensor
    bias: Tensor
    res_scale: Tensor | None
    post_weight: Tensor | None
    post_bias: Tensor | None

    def __init__(self, folded: FoldedConvolution, want_moments: bool, tile_columns: int) -> None:
        super().__init__()
        self.out_channels, _, self.kernel_size, _ = folded.weight.shape
        self.stride, self.padding, self.norm, self.eps = folded.stride, folded.padding, folded.norm, folded.eps
        self.activation, self.post_eps, self.want_moments = folded.activation, folded.post_eps, want_moments
        # A row of the matrix is a window: kernel rows, kernel columns, channels.
        windows = _float(folded.weight).permute(0, 2, 3, 1).flatten(1)
        self.register_buffer("panels", pack_panels(windows, tile_columns))
        self.register_buffer("bias", fill_up(_float(folded.bias), tile_columns))
        self.register_buffer("res_scale", _float_or_none(folded.res_scale))
        self.register_buffer("post_weight", _float_or_none(folded.post_weight))
        self.register_buffer("post_bias", _float_or_none(folded.post_bias))

    def forward(self, x: Tensor, moments: Tensor | None, residual: Tensor | None) -> Step:
        moments = _moments_for(self.norm, x, moments)
        weights = (self.panels, self.bias, residual, self.res_scale, self.post_weight, self.post_bias)
        shape = (self.out_channels, self.kernel_size, self.stride, self.padding)
        activation = (self.activation.name, self.activation.scale, self.activation.shift)
        norms = (self.norm, self.eps, self.post_eps, self.want_moments)
        y, y_moments = norm_convolution(x, moments, *weights, *shape, *activation, *norms)
        return y, y_moments if self.want_moments else None


class NativeDepthwise(KeepsDtype):
    """A depthwise convolution."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, lanes: int) -> None:
        super().__init__()
        self.register_buffer("weight", pack_depthwise(_float(weight), lanes))
        self.register_buffer("bias", fill_up(_float(bias), lanes))

    def forward(self, x: Tensor) -> Tensor:
        return depthwise(x, self.weight, self.bias)


def _moments_for(norm: str, x: Tensor, moments: Tensor | None) -> Tensor | None:
    """The moments that a norm of this kind reads."""
    if norm != "sample":
        return None
    return sample_moments(x) if moments is None else moments


def _float(weight: Tensor) -> Tensor:
    return weight.detach().float().contiguous()


def _float_or_none(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else _float(weight)
