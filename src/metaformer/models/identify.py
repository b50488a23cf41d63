"""Which model of the zoo a file of weights belongs to."""

from dataclasses import replace

from metaformer.core.errors import ConfigError
from metaformer.models.layouts import Layout, recognise
from metaformer.models.weights import Weights
from metaformer.models.weights.config_fits import expected_shapes
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
        f"Say which, as {fitting[0]}."
    )


def _fits(weights: Weights, layout: Layout, name: str) -> bool:
    config = ZOO[name]
    if weights.state[layout.marker].shape[0] != config.dims[0]:
        return False
    shapes = expected_shapes(config)
    names = layout.keys(list(shapes), config)
    if len(names) < len(shapes):
        return False
    state = layout.unpack(weights.state)
    classifier = {layout.key(f"head.fc.{part}", config) for part in ("weight", "bias")}
    # A backbone may come without its classifier.
    if set(names.values()) - classifier != state.keys() - classifier:
        return False
    return all(
        shapes[ours].numel() == state[theirs].numel() for ours, theirs in names.items() if theirs not in classifier
    )
