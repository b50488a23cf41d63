"""The paper's point in three minutes."""

from dataclasses import replace

from metaformer.block.norm import ModifiedLayerNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.models.config import MetaFormerConfig
from metaformer.recipes.study_paper import study_paper
from metaformer.study.config import PlannedVariant, StudyConfig

ROWS = ("pooling", "identity", "random", "depthwise_conv", "ppaa", "ppff", "no_channel_mlp", "no_residual")


def study_quick() -> StudyConfig:
    """Nothing changes but the token mixer, and as negative controls the channel MLP and the residual connection.

    Rows of `study_paper` at its smallest scale. Attention keeps the norm of the base, so that the mixer alone differs;
    a model without residual connections is tried with an open LayerScale too.

    Command: `metaformer study quick`. Hardware: 2 CPU cores, no GPU. Time: under three minutes. Result: README.md.
    """
    study = study_paper("digits")
    rows = {row.name: row for row in study.variants}
    late = rows["ppaa"]
    assert isinstance(late.model, MetaFormerConfig)
    about = replace(
        late.about,
        change="attention in stages 3 and 4, pooling below",
        paper_note=f"{late.about.paper_note}; there with layer norm",
    )
    rows["ppaa"] = replace(late, about=about, model=replace(late.model, norm=ModifiedLayerNormConfig()), train=None)
    return replace(
        study,
        name="quick",
        title="The same architecture, with nothing changed but the token mixer",
        question="Does it matter which token mixer sits in the MetaFormer block?",
        variants=(*(rows[name] for name in ROWS), _open(rows["no_residual"])),
    )


def _open(row: PlannedVariant) -> PlannedVariant:
    assert isinstance(row.model, MetaFormerConfig)
    about = replace(
        row.about,
        name="no_residual_scale_1",
        title="No residual, LayerScale 1",
        change="residual connections left out; LayerScale starts at 1, as in the base",
    )
    model = replace(row.model, residuals=(ResidualConfig(skip=False, layer_scale_init=1.0),))
    return replace(row, about=about, model=model)
