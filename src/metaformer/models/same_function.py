"""What two configs compute otherwise from the same weights."""

from dataclasses import replace
from typing import Any

from metaformer.core.configs import to_dict
from metaformer.models.config import MetaFormerConfig

# Tensors of another shape say these, and a model may have others than the weights that it starts from; only training
# or first weights depend on the rest.
LEFT_OUT = {
    *("dims", "depths", "num_classes", "in_chans", "image_size", "preprocessing", "drop_path"),
    *("dropout", "attention_dropout", "proj_dropout", "momentum"),
    *("init_std", "init_convolutions", "layer_scale_init", "res_scale_init"),
}


def differences(theirs: MetaFormerConfig, ours: MetaFormerConfig) -> list[str]:
    """The settings that have no weights of their own and decide what is computed: a sentence each.

    Sizes are left out: tensors of another shape are found by themselves.
    """
    if theirs.num_stages != ours.num_stages:
        return [f"the number of stages is {theirs.num_stages} there and {ours.num_stages} here"]
    return list(dict.fromkeys(_compare(_plain(theirs), _plain(ours), "")))


def _plain(config: MetaFormerConfig) -> dict[str, Any]:
    """As JSON, with the settings of every stage, and the norm that the head has."""
    residuals = config.residuals if len(config.residuals) > 1 else config.residuals * config.num_stages
    head = replace(config.head, norm=config.head.norm or config.norm)
    return to_dict(replace(config, residuals=residuals, head=head))


def _compare(theirs: Any, ours: Any, place: str) -> list[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.get("type") == ours.get("type"):
        return [
            line
            for name in theirs
            if name not in LEFT_OUT
            for line in _compare(theirs.get(name), ours.get(name), f"{place}.{name}" if place else name)
        ]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [line for one, other in zip(theirs, ours, strict=True) for line in _compare(one, other, place)]
    return [] if theirs == ours else [f"{place} is {_name(theirs)} there and {_name(ours)} here"]


def _name(value: Any) -> str:
    return str(value["type"]) if isinstance(value, dict) and "type" in value else repr(value)[:60]
