"""The paper's ablation table and its comparisons, at three scales."""

from dataclasses import fields, replace

from metaformer.analysis.scaling import Subject
from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import BatchNormConfig, LayerNormConfig, ModifiedLayerNormConfig, NoNormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import (
    TOKEN_MIXERS,
    AttentionConfig,
    DepthwiseConvConfig,
    IdentityConfig,
    PoolingConfig,
    RandomMixingConfig,
    SeparableConvConfig,
    SpatialMLPConfig,
    TokenMixerConfig,
)
from metaformer.core.errors import unknown
from metaformer.core.records import Variant
from metaformer.models.config import HeadConfig, MetaFormerConfig
from metaformer.models.timm_model import TimmModelConfig
from metaformer.recipes.paper_scales import SCALES, Scale
from metaformer.study.config import PlannedVariant, StudyConfig, with_epochs
from metaformer.study.scaling_record import ScalingConfig, mixer_subject, model_subject
from metaformer.train.config import TrainConfig

TABLE_5, TABLE_2 = "arXiv:2111.11418, Table 5", "arXiv:2111.11418, Table 2"
P2 = "arXiv:2210.13452, Table 1"


def study_paper(scale: str = "digits", *, data: str = "") -> StudyConfig:
    """Every row of the paper's ablation table, the second paper's mixers, and other architectures at equal MACs.

    Command: `metaformer study paper --data cifar10:DIR`. Hardware and time: digits, 2 CPU cores, ten seconds a run;
    cifar10, 2 CPU cores, about a minute a run; imagenet, as the paper trained, one GPU a run and as many runs at once
    as there are GPUs, with `--execution.micro-batch-size 256 --execution.num-workers 8`: nobody has measured it here;
    think of days a run. Result: the claims table of the page.

    Args:
        scale: digits, cifar10 or imagenet.
        data: Name of a data source, where the scale has none of its own or another is wanted.

    Raises:
        ConfigError: There is no such scale.
    """
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    chosen = SCALES[scale]
    return StudyConfig(
        name=f"paper-{scale}",
        title="MetaFormer is actually what you need: the paper's comparisons, made again",
        question="Is it the token mixer or the architecture around it?",
        base="pooling",
        variants=(*_mixers(chosen), *_parts(chosen), *_hybrids(chosen), *_second_paper(chosen), *_comparators(chosen)),
        data=data or chosen.data,
        preparation=chosen.preparation,
        train=chosen.train,
        seeds=(0, 1, 2),
    )


def limited(
    study: StudyConfig, *, epochs: int | None = None, lr: float | None = None, max_train_images: int | None = None
) -> StudyConfig:
    """The study with another budget or rate, in the recipes of all rows; warm-up and cooldown keep their shares."""

    def changed(train: TrainConfig) -> TrainConfig:
        # Rows with a recipe of their own keep their ratio to the common rate.
        rate = train.lr if lr is None else lr * train.lr / study.train.lr
        return with_epochs(replace(train, lr=rate), train.epochs if epochs is None else epochs)

    preparation = study.preparation
    if max_train_images is not None:
        preparation = replace(preparation, max_train_images=max_train_images)
    rows = tuple(replace(row, train=changed(row.train)) if row.train else row for row in study.variants)
    return replace(study, train=changed(study.train), preparation=preparation, variants=rows)


def scaling_subjects(scale: str, config: ScalingConfig) -> list[Subject]:
    """Every token mixer on its own, and the scale's base with that mixer in all stages."""
    chosen = SCALES[scale]
    subjects = []
    for name, mixer in TOKEN_MIXERS.items():
        has_heads = any(one.name == "head_dim" for one in fields(mixer))
        fitting = mixer(head_dim=chosen.head_dim) if has_heads else mixer()
        subjects.append(mixer_subject(name, mixer(), config))
        subjects.append(model_subject(name, replace(chosen.base, token_mixers=(fitting,) * 4), config))
    return subjects


def scale_of(data: str) -> str:
    """The scale that suits a data source."""
    if data in ("", "digits", "cluttered-digits"):
        return "digits"
    return "cifar10" if data.lower().startswith(("cifar", "torch/cifar", "hfds/cifar")) else "imagenet"


def _row(
    name: str, title: str, *, change: str, model: MetaFormerConfig, top1: float | None, note: str = ""
) -> PlannedVariant:
    note = f"{TABLE_5}{'; ' if note else ''}{note}"
    about = Variant(name=name, title=title, change=change, paper_top1_percent=top1, paper_note=note)
    return PlannedVariant(about=about, model=model)


def _mixers(scale: Scale) -> tuple[PlannedVariant, ...]:
    def with_mixer(mixer: TokenMixerConfig) -> MetaFormerConfig:
        return replace(scale.base, token_mixers=(mixer,) * 4)

    random, depthwise = with_mixer(RandomMixingConfig()), with_mixer(DepthwiseConvConfig())
    pools = (
        _row(
            f"pool_{size}",
            f"Pooling {size}x{size}",
            change=f"pooling window of {size}x{size} tokens",
            model=with_mixer(PoolingConfig(pool_size=size)),
            top1=top1,
        )
        for size, top1 in ((5, 77.2), (7, 77.1), (9, 76.8))
    )
    return (
        _row("pooling", "Pooling 3x3", change="the base: PoolFormer", model=scale.base, top1=77.2),
        _row(
            "identity", "Identity", change="no token mixing in the block", model=with_mixer(IdentityConfig()), top1=74.3
        ),
        _row("random", "Random matrix", change="frozen random mixing matrices in all stages", model=random, top1=75.8),
        _row(
            "depthwise_conv",
            "Depthwise convolution",
            change="3x3 depthwise convolution in all stages",
            model=depthwise,
            top1=78.1,
        ),
        *pools,
    )


def _parts(scale: Scale) -> tuple[PlannedVariant, ...]:
    base = scale.base

    def activation(name: str) -> MetaFormerConfig:
        return replace(base, channel_mlp=ChannelMLPConfig(activation=name))

    return (
        _row(
            "layer_norm",
            "Layer norm",
            change="layer norm for MLN",
            model=replace(base, norm=LayerNormConfig()),
            top1=76.5,
        ),
        _row(
            "batch_norm",
            "Batch norm",
            change="batch norm for MLN",
            model=replace(base, norm=BatchNormConfig()),
            top1=76.4,
        ),
        _row("relu", "ReLU", change="ReLU for GELU", model=activation("relu"), top1=76.4),
        _row("silu", "SiLU", change="SiLU for GELU", model=activation("silu"), top1=77.2),
        *(replace(row, about=replace(row.about, control=True)) for row in _controls(base)),
    )


def _controls(base: MetaFormerConfig) -> tuple[PlannedVariant, ...]:
    """What the paper found to fail."""
    no_residual = ResidualConfig(skip=False, layer_scale_init=1e-5)
    shut = replace(base, residuals=(no_residual,))
    no_scale = replace(base, residuals=(replace(no_residual, layer_scale_init=None),))
    not_stated = "LayerScale not stated"
    return (
        _row(
            "no_norm", "No norm", change="normalisation left out", model=replace(base, norm=NoNormConfig()), top1=46.1
        ),
        _row(
            "no_residual",
            "No residual, LayerScale 1e-5",
            change="residual connections left out; LayerScale starts at 1e-5, as in the paper's S12",
            model=shut,
            top1=0.1,
            note=not_stated,
        ),
        _row(
            "no_residual_no_scale",
            "No residual, no LayerScale",
            change="residual connections and LayerScale left out",
            model=no_scale,
            top1=0.1,
            note=not_stated,
        ),
        _row(
            "no_channel_mlp",
            "No channel MLP",
            change="channel MLPs left out",
            model=replace(base, channel_mlp=None),
            top1=5.7,
        ),
    )


def _hybrids(scale: Scale) -> tuple[PlannedVariant, ...]:
    pool, mlp, attention = PoolingConfig(), SpatialMLPConfig(), AttentionConfig(head_dim=scale.head_dim)
    # The hybrids with attention use layer norm, and one position embedding before the first attention stage.
    normed = replace(scale.base, norm=LayerNormConfig())
    pppa = replace(normed, token_mixers=(pool, pool, pool, attention), position_embedding_stages=(3,))
    ppaa = replace(normed, token_mixers=(pool, pool, attention, attention), position_embedding_stages=(2,))
    pppf = replace(scale.base, token_mixers=(pool, pool, pool, mlp))
    ppff = replace(scale.base, token_mixers=(pool, pool, mlp, mlp))
    with_attention = "with layer norm, as in the paper"
    rows = (
        _row("pppa", "Attention, stage 4", change=f"attention in stage 4; {with_attention}", model=pppa, top1=78.3),
        _row(
            "ppaa",
            "Attention, stages 3-4",
            change=f"attention in stages 3 and 4; {with_attention}",
            model=ppaa,
            top1=81.0,
        ),
        _row("pppf", "Spatial MLP, stage 4", change="spatial MLP in stage 4", model=pppf, top1=77.5),
        _row("ppff", "Spatial MLP, stages 3-4", change="spatial MLP in stages 3 and 4", model=ppff, top1=77.9),
    )
    return tuple(replace(row, train=scale.hybrid_train) if "attention" in row.about.change else row for row in rows)


def _second_paper(scale: Scale) -> tuple[PlannedVariant, ...]:
    norm = LayerNormConfig(eps=1e-6, bias=False)
    stem, *others = scale.base.patch_embeddings
    plain, scaled = ResidualConfig(), ResidualConfig(res_scale_init=1.0)
    head = HeadConfig(norm=LayerNormConfig(eps=1e-6), norm_after_pooling=True)
    base = replace(
        scale.base,
        patch_embeddings=(replace(stem, post_norm=norm), *(replace(other, pre_norm=norm) for other in others)),
        norm=ModifiedLayerNormConfig(eps=1e-6, bias=False),
        channel_mlp=ChannelMLPConfig(activation="star_relu", bias=False),
        init_convolutions=True,
        residuals=(plain, plain, scaled, scaled),
        head=head,
    )
    strong = replace(base, norm=norm, head=replace(head, hidden_ratio=4.0))
    identity, random, separable = IdentityConfig(), RandomMixingConfig(), SeparableConvConfig()
    attention = AttentionConfig(head_dim=scale.head_dim, proj_bias=False)
    family = "the second paper's block, depths of the base"
    rows: tuple[tuple[str, str, MetaFormerConfig, tuple[TokenMixerConfig, ...], float, str], ...] = (
        ("identityformer", "IdentityFormer", base, (identity,) * 4, 74.6, "S12"),
        ("randformer", "RandFormer", base, (identity, identity, random, random), 76.6, "S12"),
        ("poolformerv2", "PoolFormerV2", base, (PoolingConfig(),) * 4, 78.0, "S12"),
        ("convformer", "ConvFormer", strong, (separable,) * 4, 83.0, "S18, 27 M parameters"),
        ("caformer", "CAFormer", strong, (separable, separable, attention, attention), 83.6, "S18, 26 M parameters"),
    )
    return tuple(
        PlannedVariant(
            about=Variant(
                name=name,
                title=title,
                change=f"{_named(mixers)}; {family}",
                paper_top1_percent=top1,
                paper_note=f"{P2}, {size}",
                # S18 has twice the parameters.
                paper_same_size=size == "S12",
            ),
            model=replace(model, token_mixers=mixers),
        )
        for name, title, model, mixers, top1, size in rows
    )


def _named(mixers: tuple[TokenMixerConfig, ...]) -> str:
    names = {IdentityConfig: "identity", RandomMixingConfig: "random", PoolingConfig: "pooling"}
    names |= {SeparableConvConfig: "separable convolution", AttentionConfig: "attention"}
    return ", ".join(dict.fromkeys(names[type(mixer)] for mixer in mixers))


def _comparators(scale: Scale) -> tuple[PlannedVariant, ...]:
    deit = f"{TABLE_2} has DeiT-S, 4.6 G MACs: 79.8, beside S24 with 80.3"
    # Last: whether the paper's model has the MACs of S12, 1.8 G.
    rows = (
        ("resnet", "ResNet", "residual convolutions", 70.6, f"{TABLE_2}, RSB-ResNet-18", True),
        ("resmlp", "ResMLP", "spatial MLPs on one grid", 76.6, f"{TABLE_2}, ResMLP-S12, 3.0 G MACs", False),
        ("vit", "ViT", "attention on one grid", None, deit, False),
    )
    return tuple(
        PlannedVariant(
            about=Variant(
                name=name,
                title=title,
                change=f"another architecture: {what}",
                paper_top1_percent=top1,
                paper_note=note,
                paper_same_size=same_size,
            ),
            model=_with_drop_path(model, scale.base.drop_path),
            match="macs",
        )
        for (name, title, what, top1, note, same_size), model in zip(rows, scale.comparators, strict=True)
    )


def _with_drop_path(model: TimmModelConfig, rate: float) -> TimmModelConfig:
    """The model with the base's drop path: what is compared is the architecture, not its regularisation."""
    return replace(model, options=model.options | {"drop_path_rate": rate}) if rate else model
