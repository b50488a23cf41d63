"""A data set and a model so small that an epoch takes milliseconds."""

from dataclasses import replace

import pytest
import torch

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.token_mixers import PoolingConfig
from metaformer.core.preprocessing import as_it_is
from metaformer.core.seeding import generator
from metaformer.data.source import DataFacts, evaluation_batches_of, train_batches_of
from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.train.config import TrainConfig

NUM_TRAIN, NUM_CLASSES, SIDE_PX = 40, 3, 8


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small gain nothing from two threads, and lose much where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Stripes:
    """Noise with a bright band, whose height on the image is its class."""

    def __init__(self) -> None:
        self.num_test_reads = 0
        self.unreadable = []
        self.facts = DataFacts(
            name="stripes",
            title="Stripes",
            description="Made up.",
            class_names=("top", "middle", "bottom"),
            model_input=as_it_is((SIDE_PX, SIDE_PX), mean=(0.1,), std=(0.5,)),
            num_train=NUM_TRAIN,
            num_validation=30,
            num_test=60,
            fingerprint="stripes",
        )

    def train_batches(self, plan):
        return train_batches_of(*self.train_epoch(seed=plan.seed, epoch=plan.epoch), plan)

    def evaluation_batches(self, split, *, batch_size=250, rank=0, world_size=1):
        images, labels = self.test() if split == "test" else self.validation()
        return evaluation_batches_of(images, labels, batch_size=batch_size, rank=rank, world_size=world_size)

    def train_epoch(self, *, seed, epoch):
        return self._draw(NUM_TRAIN, generator("stripes", seed, epoch))

    def validation(self):
        return self._draw(30, generator("stripes", "validation"))

    def test(self):
        self.num_test_reads += 1
        return self._draw(60, generator("stripes", "test"))

    def _draw(self, num, random):
        labels = torch.randint(0, NUM_CLASSES, (num,), generator=random)
        images = torch.randn(num, 1, SIDE_PX, SIDE_PX, generator=random)
        for row in range(2):
            images[torch.arange(num), 0, 3 * labels + row] += 2
        return images, labels


@pytest.fixture
def stripes():
    return Stripes()


def tiny_config():
    """A model with drop path and dropout, so that a run that resumes must get its random numbers right."""
    return replace(
        TINY_POOLFORMER,
        dims=(4, 8),
        depths=(1, 1),
        token_mixers=(PoolingConfig(),) * 2,
        patch_embeddings=TINY_POOLFORMER.patch_embeddings[:2],
        channel_mlp=ChannelMLPConfig(dropout=0.2),
        drop_path=0.3,
        num_classes=NUM_CLASSES,
        in_chans=1,
        image_size=(SIDE_PX, SIDE_PX),
    )


@pytest.fixture
def tiny():
    return tiny_config()


@pytest.fixture
def recipe():
    return TrainConfig(epochs=4, batch_size=8, lr=5e-3, warmup_epochs=1.0)


@pytest.fixture
def short(recipe):
    return replace(recipe, epochs=2)
