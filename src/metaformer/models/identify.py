"""Which model of the zoo a file of weights belongs to."""

from dataclasses import replace

import torch

from metaformer.core.errors import ConfigError
from metaformer.models.layouts import Layout, recognise
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import Weights
from metaformer.models.zoo import ZOO


def identify(weights: Weights) -> str:
    """The zoo's name for the model that the weights come from.

    Keys and shapes decide, apart from the classifier's number of classes. Mixers without weights leave no trace
    (pooling, identity): then the source's own name decides, if it says one of those that fit.

    Raises:
        ConfigError: None fits, or several do and the source's name does not tell.
    """
    layout = recognise(weights.state, weights.source)
    fitting = [name for name in ZOO if _fits(weights, layout, name)]
    if not fitting:
        raise ConfigError(f"the weights of {weights.source} (layout {layout.name}) fit no model of the zoo.")
    # Models that differ in their image size alone have the same weights: the first is as good as any.
    if len({replace(ZOO[name], image_size=ZOO[fitting[0]].image_size) for name in fitting}) == 1:
        return fitting[0]
    # The longest first: a name may be the beginning of another.
    named = [name for name in sorted(fitting, key=len, reverse=True) if name in weights.source]
    if named:
        return named[0]
    raise ConfigError(
        f"the weights of {weights.source} fit {', '.join(fitting)}, which differ in parts without weights. "
        f"Say which: --model {fitting[0]}."
    )


def _fits(weights: Weights, layout: Layout, name: str) -> bool:
    config = ZOO[name]
    with torch.device("meta"):
        model = MetaFormer(config)
    theirs, left_out = layout.export(model.state_dict(), config)
    if left_out or theirs.keys() != weights.state.keys():
        return False
    classifier = {layout.key(f"head.fc.{part}", config) for part in ("weight", "bias")}
    return all(tensor.numel() == weights.state[key].numel() for key, tensor in theirs.items() if key not in classifier)
