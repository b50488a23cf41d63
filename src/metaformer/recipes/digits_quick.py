"""One small PoolFormer on the embedded digits, in seconds."""

from metaformer.models.config import MetaFormerConfig
from metaformer.recipes.paper_scales import TINY_POOLFORMER
from metaformer.recipes.study_quick import study_quick
from metaformer.train.config import Run


def digits_quick(model: str = "") -> Run:
    """The base of `metaformer study quick`, alone.

    Command: `metaformer train digits-quick`. Hardware: one CPU core. Time: 12 s. Result: about 94% on the test split.

    Args:
        model: Nothing, or a name of the zoo, which is far too large for the task.
    """
    study = study_quick()
    return Run(name="digits_quick", model=_model(model), data=study.data, train=study.train, seed=0)


def _model(name: str) -> MetaFormerConfig:
    from metaformer.models.zoo import ZOO

    return ZOO[name] if name else TINY_POOLFORMER
