"""Features to class scores."""

from jaxtyping import Float
from torch import Tensor, nn

from metaformer.core.errors import ConfigError

POOLINGS = ("avg", "")


class Head(nn.Module):
    """Mean over the grid, dropout, linear classifier.

    Source: arXiv:2111.11418, Figure 2.
    """

    def __init__(self, dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.global_pool = "avg"
        self.dropout = nn.Dropout(dropout)
        self.fc: nn.Module = _classifier(dim, num_classes)

    def reset(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier; 0 classes leave it out, and global_pool="" keeps the grid then.

        Raises:
            ConfigError: `global_pool` is unknown, or keeps the grid in front of a classifier.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        if global_pool not in POOLINGS:
            raise ConfigError(f"global_pool must be 'avg' or '' (keep the grid); got {global_pool!r}.")
        if not global_pool and num_classes:
            raise ConfigError(
                f"global_pool='' keeps the grid, and a classifier of {num_classes} classes needs one vector an image. "
                "Set num_classes=0, or global_pool='avg'."
            )
        self.global_pool = global_pool
        self.fc = _classifier(self.dim, num_classes)

    def forward(self, x: Float[Tensor, "b c h w"], pre_logits: bool = False) -> Float[Tensor, "b ..."]:
        if self.global_pool:
            x = x.mean(dim=(-2, -1))
        x = self.dropout(x)
        return x if pre_logits else self.fc(x)


def _classifier(dim: int, num_classes: int) -> nn.Module:
    if not num_classes:
        return nn.Identity()
    linear = nn.Linear(dim, num_classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear
