"""What a key layout is: rules from our names to theirs."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor

from metaformer.models.config import HeadConfig, MetaFormerConfig

# Our name as a pattern -> their name; the first rule that fits the whole name decides.
Rules = tuple[tuple[str, str], ...]


def _never(_key: str, _config: MetaFormerConfig) -> bool:
    return False


def _same(head: HeadConfig) -> HeadConfig:
    return head


def authors_head(head: HeadConfig) -> HeadConfig:
    """PoolFormer's own head: the norm of the blocks on the whole map, then the mean."""
    return replace(head, norm=None, norm_after_pooling=False)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a repository names and shapes the tensors of a MetaFormer."""

    name: str
    marker: str  # the key of the first convolution's weight
    beside: str = ""  # a key that tells the layout from others with the same marker
    rules: Callable[[MetaFormerConfig], Rules]
    # Whether they keep this tensor of a 1x1 convolution as the matrix of a linear layer.
    is_matrix: Callable[[str, MetaFormerConfig], bool] = field(default=_never)
    # Their state dict with our shapes, where one tensor of theirs is several of ours; and the way back.
    unpack: Callable[[dict[str, Tensor]], dict[str, Tensor]] = field(default=dict)
    pack: Callable[[dict[str, Tensor]], dict[str, Tensor]] = field(default=dict)
    # The head that their code computes for these weights.
    head: Callable[[HeadConfig], HeadConfig] = field(default=_same)

    def key(self, ours: str, config: MetaFormerConfig) -> str | None:
        """Their name for a tensor of ours, or None if they have no such tensor."""
        for pattern, template in self.rules(config):
            match = re.fullmatch(pattern, ours)
            if match:
                return match.expand(template)
        return None

    def keys(self, ours: list[str], config: MetaFormerConfig) -> dict[str, str]:
        """Our names -> theirs."""
        rules = [(re.compile(pattern), template) for pattern, template in self.rules(config)]
        found = {}
        for name in ours:
            match = next(((hit, template) for rule, template in rules if (hit := rule.fullmatch(name))), None)
            if match:
                found[name] = match[0].expand(match[1])
        return found

    def export(self, state: dict[str, Tensor], config: MetaFormerConfig) -> tuple[dict[str, Tensor], list[str]]:
        """Our weights under their names and in their shapes.

        Returns:
            Their state dict, and our tensors that have no place in it.
        """
        names = self.keys(list(state), config)
        theirs = {
            name: state[ours].flatten(1) if self.is_matrix(ours, config) else state[ours]
            for ours, name in names.items()
        }
        return self.pack(theirs), [ours for ours in state if ours not in names]
