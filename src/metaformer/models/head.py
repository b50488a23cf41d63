"""Features to class scores."""

from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.activation import SquaredReLU
from metaformer.core.errors import ConfigError
from metaformer.models.config import HeadConfig


class Head(nn.Module):
    """Mean over the grid or the class token; then an MLP layer where there is one, and the classifier.

    Source: arXiv:2111.11418, Figure 2; the MLP head, the authors' code of arXiv:2210.13452.
    """

    def __init__(self, dim: int, num_classes: int, config: HeadConfig, *, class_token: bool = False) -> None:
        super().__init__()
        self.global_pool = self.own_pool = "token" if class_token else "avg"
        self.hidden: nn.Module = nn.Identity()
        self.hidden_dim = dim
        if config.hidden_ratio is not None:
            self.hidden_dim = max(1, int(dim * config.hidden_ratio))
            self.hidden = HiddenLayer(dim, self.hidden_dim, config.hidden_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.fc: nn.Module = _classifier(self.hidden_dim, num_classes)

    def reset(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier; 0 classes leave it out, and global_pool="" keeps the grid then.

        None keeps the pooling as it is, but for a classifier after a kept grid, which brings the model's own back.

        Raises:
            ConfigError: `global_pool` is unknown, or keeps the grid in front of a classifier.
        """
        if global_pool is None:
            global_pool = self.global_pool or (self.own_pool if num_classes else "")
        poolings = dict.fromkeys((self.own_pool, "avg"))
        if global_pool and global_pool not in poolings:
            names = ", ".join(map(repr, poolings))
            raise ConfigError(f"global_pool must be {names} or '' (keep the grid); got {global_pool!r}.")
        if not global_pool and num_classes:
            raise ConfigError(
                f"global_pool='' keeps the grid, and a classifier of {num_classes} classes needs one vector an image. "
                f"Set num_classes=0, or global_pool={self.own_pool!r}."
            )
        self.global_pool = global_pool
        self.fc = _classifier(self.hidden_dim, num_classes).train(self.training)

    def forward(
        self, x: Float[Tensor, "b c *grid"], pre_logits: bool = False, norm: nn.Module | None = None
    ) -> Float[Tensor, "b ..."]:
        """Class scores; `norm` is the model's last norm where that comes after the mean."""
        if self.global_pool:
            tokens = x.flatten(2)
            x = tokens[:, :, 0] if self.global_pool == "token" else tokens.mean(dim=2)
        if norm is not None:
            x = norm(x)
        if not self.global_pool:
            return x
        x = self.dropout(self.hidden(x))
        return x if pre_logits else self.fc(x)


class HiddenLayer(nn.Module):
    """Linear layer, squared ReLU, layer norm."""

    def __init__(self, dim: int, hidden_dim: int, eps: float) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, hidden_dim)
        self.activation = SquaredReLU()
        self.norm = nn.LayerNorm(hidden_dim, eps=eps)

    def forward(self, x: Float[Tensor, "b c"]) -> Float[Tensor, "b d"]:
        return self.norm(self.activation(self.fc(x)))


def _classifier(dim: int, num_classes: int) -> nn.Module:
    if not num_classes:
        return nn.Identity()
    linear = nn.Linear(dim, num_classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear
