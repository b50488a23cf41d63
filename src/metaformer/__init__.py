"""The workbench for MetaFormer vision models: build, train, compare, understand and ship."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaformer.analysis.cost import Cost, profile
    from metaformer.block.metaformer_block import BlockConfig, MetaFormerBlock
    from metaformer.block.site import Site
    from metaformer.block.token_mixers import TOKEN_MIXERS
    from metaformer.core.errors import ConfigError, ShapeError
    from metaformer.deploy.analysis import analyze
    from metaformer.deploy.bench import bench
    from metaformer.fast.optimize import optimize
    from metaformer.models.config import MetaFormerConfig
    from metaformer.models.create import create_model
    from metaformer.models.load_weights import load_weights
    from metaformer.models.metaformer import MetaFormer
    from metaformer.models.zoo import list_models
    from metaformer.train.run import train

__version__ = "0.1.0"

# Public name -> where it lives. Imported on first use: PyTorch takes seconds, and `metaformer --help` needs none of it.
_HOMES = {
    "TOKEN_MIXERS": "block.token_mixers",
    "BlockConfig": "block.metaformer_block",
    "ConfigError": "core.errors",
    "Cost": "analysis.cost",
    "MetaFormer": "models.metaformer",
    "MetaFormerBlock": "block.metaformer_block",
    "MetaFormerConfig": "models.config",
    "ShapeError": "core.errors",
    "Site": "block.site",
    "analyze": "deploy.analysis",
    "bench": "deploy.bench",
    "create_model": "models.create",
    "list_models": "models.zoo",
    "load_weights": "models.load_weights",
    "optimize": "fast.optimize",
    "profile": "analysis.cost",
}

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
    "analyze",
    "bench",
    "create_model",
    "list_models",
    "load_weights",
    "optimize",
    "profile",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "train":
        # A subpackage and a function in one: whoever imports the first must not lose the second.
        return importlib.import_module("metaformer.train")
    if name not in _HOMES:
        raise AttributeError(f"module 'metaformer' has no attribute {name!r}")
    return getattr(importlib.import_module(f"metaformer.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
