"""Whether the config in a weights file can be of the file's tensors, found out before a model is built by it."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from metaformer.block.norm import NORMS
from metaformer.block.token_mixers import TOKEN_MIXERS
from metaformer.core.errors import ConfigError, DataError, one_line
from metaformer.models.config import MetaFormerConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights.tensors import describe_shape


def require_fit(config: MetaFormerConfig, state: dict[str, Tensor], path: Path) -> None:
    """Refuses a config that is not of these tensors; costs one block a stage, without numbers.

    Raises:
        DataError: It is not.
    """
    try:
        expected = expected_shapes(config)
    except ConfigError as error:
        raise DataError(f"the config inside {path} cannot be built: {error}") from None
    except Exception as error:
        # A mixer from outside may need numbers to be built; it is the caller's own.
        if _is_outside(config):
            return
        raise DataError(f"the config inside {path} cannot be built: {one_line(error, 200)}") from None
    for name, shape in expected.items():
        if name not in state:
            raise DataError(f"the config inside {path} is not of its tensors: there is no {name}.")
        if state[name].shape != shape:
            should = "x".join(map(str, shape)) or "a scalar"
            raise DataError(
                f"the config inside {path} is not of its tensors: {name} is {describe_shape(state[name])}, "
                f"and {should} by the config."
            )
    if extra := [name for name in state if name not in expected]:
        raise DataError(f"the config inside {path} is not of its tensors: it has no {extra[0]}.")


def expected_shapes(config: MetaFormerConfig) -> dict[str, torch.Size]:
    """The shape of every tensor of a model, found with one block a stage: all blocks of a stage are alike."""
    shapes: dict[str, torch.Size] = {}
    for name, shape in _shapes_of_one_block(replace(config, depths=(1,) * config.num_stages)).items():
        stage, _, rest = name.partition(".blocks.0.")
        copies = config.depths[int(stage.rpartition(".")[2])] if rest else 1
        shapes |= {f"{stage}.blocks.{i}.{rest}" if rest else name: shape for i in range(copies)}
    return shapes


@lru_cache(maxsize=64)
def _shapes_of_one_block(config: MetaFormerConfig) -> dict[str, torch.Size]:
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return {name: tensor.shape for name, tensor in MetaFormer(config).state_dict().items()}


def _is_outside(config: MetaFormerConfig) -> bool:
    """Whether a class in it is not of this package."""
    norms = (config.norm, config.head.norm, *(e for p in config.patch_embeddings for e in (p.pre_norm, p.post_norm)))
    return any(TOKEN_MIXERS.name_of(type(mixer)) is None for mixer in config.token_mixers) or any(
        norm is not None and NORMS.name_of(type(norm)) is None for norm in norms
    )
