"""What freezing and testing digests share: rules for weights, which logits are kept, one number for a key list."""

import hashlib
import re
from collections.abc import Mapping, Sequence

STEP = 125  # the logits of one class in so many are kept
RULES = (
    (r"(cls_token|pos_embed|relative_position_bias_table)$", "pos_embed"),
    (r"\.ls[12]$", "layer_scale"),
    (r"\.alpha$", "norm_weight"),
    (r"(\.beta|bias)$", "bias"),
    (r"(^|\.)norm\d?\.weight$", "norm_weight"),
    (r"^head(\.fc)?\.weight$", "classifier"),
    (r"weight$", "matrix"),
)


def entries(shapes: Mapping[str, Sequence[int]]) -> dict[str, dict[str, object]]:
    """What `formula.state_dict` wants to know of each key."""
    return {
        key: {"shape": list(shape), "rule": next(rule for pattern, rule in RULES if re.search(pattern, key))}
        for key, shape in shapes.items()
    }


def keys_hash(shapes: Mapping[str, Sequence[int]]) -> str:
    """The SHA-256 of the sorted lines `name 3x4`."""
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
