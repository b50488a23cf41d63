"""Token mixers: the plug-in of the MetaFormer. One file each, and TOKEN_MIXERS, the one table of names."""

from metaformer.block.token_mixers.attention import AttentionConfig
from metaformer.block.token_mixers.config import TokenMixerConfig
from metaformer.block.token_mixers.convolution import ConvolutionConfig
from metaformer.block.token_mixers.depthwise_conv import DepthwiseConvConfig
from metaformer.block.token_mixers.identity import IdentityConfig
from metaformer.block.token_mixers.pooling import PoolingConfig
from metaformer.block.token_mixers.random_mixing import RandomMixingConfig
from metaformer.block.token_mixers.separable_conv import SeparableConvConfig
from metaformer.block.token_mixers.spatial_mlp import SpatialMLPConfig
from metaformer.block.token_mixers.two_layer_spatial_mlp import TwoLayerSpatialMLPConfig
from metaformer.block.token_mixers.window_attention import WindowAttentionConfig
from metaformer.core.configs import register_table
from metaformer.core.registry import Registry

TOKEN_MIXERS: Registry[type] = Registry(
    "token mixer",
    {
        "identity": IdentityConfig,
        "pooling": PoolingConfig,
        "random": RandomMixingConfig,
        "depthwise_conv": DepthwiseConvConfig,
        "convolution": ConvolutionConfig,
        "separable_conv": SeparableConvConfig,
        "attention": AttentionConfig,
        "window_attention": WindowAttentionConfig,
        "spatial_mlp": SpatialMLPConfig,
        "two_layer_spatial_mlp": TwoLayerSpatialMLPConfig,
    },
)
register_table(TokenMixerConfig, TOKEN_MIXERS)

__all__ = [
    "TOKEN_MIXERS",
    "AttentionConfig",
    "ConvolutionConfig",
    "DepthwiseConvConfig",
    "IdentityConfig",
    "PoolingConfig",
    "RandomMixingConfig",
    "SeparableConvConfig",
    "SpatialMLPConfig",
    "TokenMixerConfig",
    "TwoLayerSpatialMLPConfig",
    "WindowAttentionConfig",
]
