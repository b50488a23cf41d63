"""A study of two tiny models; its runs take a second each, in worker processes of their own."""

from dataclasses import replace

import pytest

from metaformer.block.token_mixers import AttentionConfig, IdentityConfig, PoolingConfig
from metaformer.core.records import Variant
from metaformer.models.config import PatchEmbeddingConfig
from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.study.config import PlannedVariant, StudyConfig
from metaformer.train.config import TrainConfig

TINY = replace(
    TINY_POOLFORMER,
    dims=(4, 8),
    depths=(1, 1),
    token_mixers=(PoolingConfig(),) * 2,
    patch_embeddings=(PatchEmbeddingConfig(kernel_size=4, stride=4, padding=0), TINY_POOLFORMER.patch_embeddings[1]),
    image_size=(16, 16),
)


def variant(name, mixer):
    model = replace(TINY, token_mixers=(mixer,) * 2)
    return PlannedVariant(about=Variant(name=name, title=name, change=name), model=model)


# Heads of seven channels do not fit: the model cannot be built.
BROKEN = variant("broken", AttentionConfig(head_dim=7))


@pytest.fixture
def study():
    return StudyConfig(
        name="tiny",
        title="Tiny",
        question="Does it run?",
        base="pooling",
        variants=(variant("pooling", PoolingConfig()), variant("identity", IdentityConfig())),
        data="digits",
        train=TrainConfig(epochs=2, batch_size=128, lr=1e-3, warmup_epochs=0.5),
        seeds=(0, 1),
    )


@pytest.fixture
def broken_study(study):
    """One more variant, whose runs fail."""
    return replace(study, variants=(*study.variants, BROKEN), seeds=(0,))
