"""The workbench for MetaFormer vision models: build, train, compare, understand and ship."""

from metaformer.analysis.cost import Cost, profile
from metaformer.block.metaformer_block import BlockConfig, MetaFormerBlock
from metaformer.block.site import Site
from metaformer.block.token_mixers import TOKEN_MIXERS
from metaformer.core.errors import ConfigError, ShapeError
from metaformer.models.config import MetaFormerConfig
from metaformer.models.create import create_model
from metaformer.models.load_weights import load_weights
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import list_models

__version__ = "0.1.0"

__all__ = [
    "TOKEN_MIXERS",
    "BlockConfig",
    "ConfigError",
    "Cost",
    "MetaFormer",
    "MetaFormerBlock",
    "MetaFormerConfig",
    "ShapeError",
    "Site",
    "__version__",
    "create_model",
    "list_models",
    "load_weights",
    "profile",
]
