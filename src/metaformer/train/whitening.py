"""First weights of a patch embedding that whiten its patches."""

from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.core.errors import ConfigError
from metaformer.data.batch_plan import BatchPlan
from metaformer.data.source import DataSource

NUM_BATCHES, IMAGES_AT_ONCE, PATCHES_A_BATCH = 32, 128, 8192
# Added to a variance of 1 or so: what is weaker is noise, or was lost when the image was compressed.
EPS = 1e-2


@torch.no_grad()
def whiten_patches(model: nn.Module, data: DataSource, *, seed: int) -> None:
    """Sets the first convolution to the directions in which patches vary most, each scaled to a variance of 1.

    Every direction is there with both signs, so that an activation behind it loses nothing; channels that are left over
    keep their weights. Neighbouring pixels are nearly equal, and an optimizer finds the little in which they differ
    late; now all directions are equally strong from the first step.

    Args:
        model: Has `stages[0].patch_embed.conv`.
        data: Its first training images, as augmented, give the patches.
        seed: Of order and augmentation.

    Raises:
        ConfigError: The model has no patch embedding of ours.

    Source: arXiv:2404.00498, Sec. 3.1, there with frozen weights.
    """
    conv = dict(model.named_modules()).get("stages.0.patch_embed.conv")
    if not isinstance(conv, nn.Conv2d):
        raise ConfigError(
            f"train.whitening needs a model with a patch embedding of ours; got {type(model).__name__}. Leave it out."
        )
    patches = _patches(data, conv, seed)
    variances, directions = torch.linalg.eigh((patches.T @ patches / len(patches)).double())
    # Rising order; the strongest first.
    scaled = (directions / (variances + EPS).sqrt()).flip(1).T.to(conv.weight)
    num = min(conv.out_channels // 2, len(scaled))
    kernels = scaled[:num].view(num, *conv.weight.shape[1:])
    conv.weight[: 2 * num] = torch.cat([kernels, -kernels])
    if conv.bias is not None:
        conv.bias[: 2 * num] = 0


def _patches(data: DataSource, conv: nn.Conv2d, seed: int) -> Float[Tensor, "patches values"]:
    """Some of the patches that the convolution sees, evenly over images and places."""
    parts: list[Tensor] = []
    plan = BatchPlan(seed=seed, epoch=0, batch_size=IMAGES_AT_ONCE)
    for images, _ in islice(data.train_batches(plan), NUM_BATCHES):
        unfolded = nn.functional.unfold(images.float(), conv.kernel_size, stride=conv.stride)
        patches = unfolded.transpose(1, 2).flatten(0, 1)
        parts.append(patches[:: max(1, len(patches) // PATCHES_A_BATCH)])
    return torch.cat(parts)
