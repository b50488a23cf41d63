"""Models of ours and of timm, small and with first weights, and images for them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
from tests.conftest import small_mixer
from torch import Tensor, nn

from metaformer.analysis import Exhibit, Inputs
from metaformer.block.residual import ResidualConfig
from metaformer.models.config import MetaFormerConfig, PatchEmbeddingConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import ZOO

SIDE_PX = 64
TIMM: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: timm.create_model("resnet18", num_classes=10),
    "deit_tiny": lambda: timm.create_model("deit_tiny_patch16_224", img_size=SIDE_PX, num_classes=10, depth=6),
    "swin_tiny": lambda: timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=SIDE_PX, num_classes=10, window_size=2
    ),
}


def isotropic(mixer: object, depth: int = 6) -> MetaFormerConfig:
    """Blocks on one grid of 8 x 8 tokens, as a vision transformer has them; LayerScale and biases cannot hide them."""
    return replace(
        ZOO["poolformer_s12"],
        dims=(32,),
        depths=(depth,),
        token_mixers=(small_mixer(mixer),),
        patch_embeddings=(PatchEmbeddingConfig(kernel_size=8, stride=8, padding=0),),
        residuals=(ResidualConfig(layer_scale_init=None),),
        image_size=(SIDE_PX, SIDE_PX),
        num_classes=10,
    )


def exhibit_of(config: MetaFormerConfig, name: str = "ours") -> Exhibit:
    return Exhibit(name=name, model=MetaFormer(config).eval(), build=lambda: MetaFormer(config), is_trained=False)


@pytest.fixture(params=TIMM)
def timm_model(request: pytest.FixtureRequest) -> nn.Module:
    return TIMM[request.param]().eval()


@pytest.fixture
def inputs() -> Inputs:
    """Eight images in two batches, smooth enough to have neighbours that are alike."""
    return inputs_of(torch.randn(8, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(1)))


def inputs_of(images: Tensor, batch_size: int = 4) -> Inputs:
    labels = torch.arange(len(images)) % 10
    batches = list(zip(images.split(batch_size), labels.split(batch_size), strict=True))
    return Inputs(batches=batches, num_batches=len(batches), augmented=batches)
