"""Key layouts: how other repositories name the same tensors. LAYOUTS is the one table; keys tell layouts apart."""

from collections.abc import Collection

from metaformer.core.errors import ConfigError
from metaformer.core.registry import Registry
from metaformer.models.layouts.huggingface import HUGGINGFACE
from metaformer.models.layouts.layout import Layout
from metaformer.models.layouts.mmpretrain import MMPRETRAIN
from metaformer.models.layouts.ours import OURS
from metaformer.models.layouts.sail_metaformer import SAIL_METAFORMER
from metaformer.models.layouts.sail_poolformer import SAIL_POOLFORMER
from metaformer.models.layouts.swin import SWIN, TIMM_SWIN
from metaformer.models.layouts.timm import TIMM
from metaformer.models.layouts.timm_isotropic import TIMM_MLP, TIMM_VIT

LAYOUTS: Registry[Layout] = Registry(
    "layout",
    {
        layout.name: layout
        # Those that a second key tells apart come before those with the first alone.
        for layout in (
            *(OURS, TIMM_VIT, TIMM_MLP, SWIN, TIMM_SWIN),
            *(SAIL_POOLFORMER, SAIL_METAFORMER, TIMM, HUGGINGFACE, MMPRETRAIN),
        )
    },
)


def recognise(keys: Collection[str], source: str) -> Layout:
    """The layout that these keys belong to.

    Raises:
        ConfigError: They belong to none.
    """
    for _, layout in LAYOUTS.items():
        if layout.marker in keys and (not layout.beside or layout.beside in keys):
            return layout
    first = ", ".join(sorted(keys)[:3]) or "nothing"
    raise ConfigError(
        f"the weights of {source} have none of the layouts that are known ({', '.join(LAYOUTS)}): "
        f"they hold {first}{', ...' if len(keys) > 3 else ''}"
    )


__all__ = ["LAYOUTS", "Layout", "recognise"]
