"""The channel MLP: mixes the channels of each token."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.axes import CONVOLUTIONS
from metaformer.core.checked import check_number, check_share


@dataclass(frozen=True, kw_only=True)
class ChannelMLPConfig:
    """Two linear layers with an activation between, the same for every token."""

    ratio: float = 4.0  # hidden channels per channel
    activation: str = "gelu"  # a name in ACTIVATIONS
    bias: bool = True
    dropout: float = 0.0  # after the activation and after the second layer

    def __post_init__(self) -> None:
        # Looked up here, so that a misspelt name fails where it is written.
        ACTIVATIONS[self.activation]
        check_number(self, "ratio", above=0, most=10_000, hint="The paper uses 4.")
        check_share(self, "dropout")

    def build(self, dim: int, num_axes: int = 2) -> "ChannelMLP":
        return ChannelMLP(dim, num_axes, self)


class ChannelMLP(nn.Module):
    """W2 activation(W1 x) for each token; as convolutions of one token, so that features keep their layout.

    Source: arXiv:2111.11418, Eq. 3.
    """

    def __init__(self, dim: int, num_axes: int, config: ChannelMLPConfig) -> None:
        super().__init__()
        hidden, conv = max(1, int(dim * config.ratio)), CONVOLUTIONS[num_axes]
        self.fc1 = conv(dim, hidden, 1, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.fc2 = conv(hidden, dim, 1, bias=config.bias)

    def forward(self, x: Float[Tensor, "b c *grid"]) -> Float[Tensor, "b c *grid"]:
        x = self.dropout(self.activation(self.fc1(x)))
        return self.dropout(self.fc2(x))
