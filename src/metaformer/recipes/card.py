"""What a report card rests on."""

from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.recipes.study_quick import study_quick
from metaformer.study.card import CardConfig


def card() -> CardConfig:
    """The models and the budget of `study quick`.

    Command: `metaformer card my_module:MyMixerConfig`. Hardware: 2 CPU cores, no GPU. Time: a few minutes. Result: a
    page and one line to quote.
    """
    quick = study_quick()
    return CardConfig(
        base=TINY_POOLFORMER,
        head_dim=16,
        data=quick.data,
        train=quick.train,
        seeds=quick.seeds,
    )
