"""The paper's ablation table and its comparisons, at three scales."""

from dataclasses import dataclass, replace

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
from metaformer.data.augmentation import AugmentationConfig
from metaformer.data.preparation import Preparation
from metaformer.models.config import (
    DOWNSAMPLING,
    IMAGENET_MEAN,
    IMAGENET_STD,
    HeadConfig,
    MetaFormerConfig,
    PatchEmbeddingConfig,
)
from metaformer.models.timm_model import TimmModelConfig
from metaformer.models.zoo import POOLFORMER_S12
from metaformer.recipes.study_quick import TINY_POOLFORMER
from metaformer.study.config import StudyConfig, Variant
from metaformer.study.scaling_record import ScalingConfig, mixer_subject, model_subject
from metaformer.train.config import TrainConfig
from metaformer.train.mixing import MixingConfig

TABLE_5, TABLE_2 = "arXiv:2111.11418, Table 5", "arXiv:2111.11418, Table 2"
P2 = "arXiv:2210.13452, Table 1"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A size of the study: the base, its data and what it may cost. The budget of one run is epochs x images."""

    base: MetaFormerConfig
    head_dim: int  # of attention
    data: str  # "": the caller names it
    preparation: Preparation
    train: TrainConfig
    hybrid_train: TrainConfig | None = None  # recipe of the rows with attention; None: that of all
    comparators: tuple[TimmModelConfig, TimmModelConfig, TimmModelConfig]  # ResNet, ResMLP, ViT, before scaling


DIGITS = Scale(
    base=TINY_POOLFORMER,
    head_dim=16,
    data="cluttered-digits",
    preparation=Preparation(),
    # 18 epochs of 997 images: ten seconds a run on one core.
    train=TrainConfig(epochs=18, batch_size=32, lr=4e-3),
    comparators=(
        TimmModelConfig(
            name="resnet",
            options={"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_width": 16, "stem_pool": False}
            | {"stem_stride": 1},
            width_options=("channels", "stem_width"),
        ),
        TimmModelConfig(
            name="resmlp",
            options={"patch_size": 2, "embed_dim": 32, "num_blocks": 4},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
        TimmModelConfig(
            name="vit",
            options={"patch_size": 2, "embed_dim": 32, "depth": 4, "num_heads": 2},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
    ),
)
CIFAR10 = Scale(
    base=replace(
        TINY_POOLFORMER,
        dims=(24, 48, 96, 144),
        patch_embeddings=(PatchEmbeddingConfig(kernel_size=3, stride=2, padding=1), *(DOWNSAMPLING,) * 3),
        image_size=(32, 32),
    ),
    head_dim=24,
    data="",
    # 4 epochs of 10,000 images: a minute a run on one core.
    preparation=Preparation(augmentation=AugmentationConfig(crop="shift", color_jitter=0.0), max_train_images=10_000),
    train=TrainConfig(epochs=4, batch_size=64, lr=4e-3, warmup_epochs=0.5),
    comparators=(
        TimmModelConfig(
            name="resnet",
            options={"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_width": 16, "stem_pool": False},
            width_options=("channels", "stem_width"),
        ),
        TimmModelConfig(
            name="resmlp",
            options={"patch_size": 4, "embed_dim": 64, "num_blocks": 4},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
        TimmModelConfig(
            name="vit",
            options={"patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 2},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
    ),
)
PAPER_TRAIN = TrainConfig(
    epochs=300,
    batch_size=4096,
    lr=1e-3,
    lr_batch_size=1024,
    min_lr=1e-5,
    warmup_epochs=5.0,
    weight_decay=0.05,
    label_smoothing=0.1,
    mixing=MixingConfig(mixup=0.8, cutmix=1.0, switch=0.5),
)
IMAGENET = Scale(
    base=replace(POOLFORMER_S12, drop_path=0.1),
    head_dim=32,
    data="",
    preparation=Preparation(
        image_size=(224, 224),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        crop_fraction=0.9,
        augmentation=AugmentationConfig(auto_augment="rand-m9-mstd0.5-inc1", erasing=0.25),
    ),
    train=PAPER_TRAIN,
    hybrid_train=replace(PAPER_TRAIN, batch_size=1024),
    comparators=(
        TimmModelConfig(
            name="resnet",
            options={"layers": [2, 2, 2, 2], "channels": [64, 128, 256, 512], "stem_width": 64},
            width_options=("channels", "stem_width"),
        ),
        TimmModelConfig(
            name="resmlp",
            options={"patch_size": 16, "embed_dim": 384, "num_blocks": 12},
            width_options=("embed_dim",),
            image_size_option="img_size",
        ),
        TimmModelConfig(
            name="vit",
            options={"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6},
            width_options=("embed_dim",),
            width_multiple=12,
            image_size_option="img_size",
        ),
    ),
)
SCALES = {"digits": DIGITS, "cifar10": CIFAR10, "imagenet": IMAGENET}


def study_paper(scale: str = "digits", *, data: str = "") -> StudyConfig:
    """Every row of the paper's ablation table, the second paper's mixers, and other architectures at equal MACs.

    Command: `metaformer study paper --data cifar10:DIR`. Hardware and time: digits, 2 CPU cores, ten seconds a run;
    cifar10, 2 CPU cores, about a minute a run; imagenet, 8 GPUs, a day or more a run, as the paper trained. Result: the
    claims table of the page.

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
    """The study with another budget or rate, in the recipes of all rows; a warm-up keeps its share of the epochs."""

    def changed(train: TrainConfig) -> TrainConfig:
        num_epochs = train.epochs if epochs is None else epochs
        share = num_epochs / train.epochs
        warmup = None if train.warmup_epochs is None else train.warmup_epochs * share
        # Rows with a recipe of their own keep their ratio to the common rate.
        rate = train.lr if lr is None else lr * train.lr / study.train.lr
        return replace(train, epochs=num_epochs, warmup_epochs=warmup, lr=rate)

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
        fitting = AttentionConfig(head_dim=chosen.head_dim) if mixer is AttentionConfig else mixer()
        subjects.append(mixer_subject(name, mixer(), config))
        subjects.append(model_subject(name, replace(chosen.base, token_mixers=(fitting,) * 4), config))
    return subjects


def scale_of(data: str) -> str:
    """The scale that suits a data source."""
    if data in ("", "digits", "cluttered-digits"):
        return "digits"
    return "cifar10" if data.lower().startswith(("cifar", "torch/cifar", "hfds/cifar")) else "imagenet"


def _row(name: str, title: str, change: str, model: MetaFormerConfig, top1: float | None, note: str = "") -> Variant:
    note = f"{TABLE_5}{'; ' if note else ''}{note}"
    return Variant(name=name, title=title, change=change, model=model, paper_top1=top1, paper_note=note)


def _mixers(scale: Scale) -> tuple[Variant, ...]:
    def with_mixer(mixer: TokenMixerConfig) -> MetaFormerConfig:
        return replace(scale.base, token_mixers=(mixer,) * 4)

    random, depthwise = with_mixer(RandomMixingConfig()), with_mixer(DepthwiseConvConfig())
    pools = (
        _row(
            f"pool_{size}",
            f"Pooling {size}x{size}",
            f"pooling window of {size}x{size} tokens",
            with_mixer(PoolingConfig(pool_size=size)),
            top1,
        )
        for size, top1 in ((5, 77.2), (7, 77.1), (9, 76.8))
    )
    return (
        _row("pooling", "Pooling 3x3", "the base: PoolFormer", scale.base, 77.2),
        _row("identity", "Identity", "no token mixing in the block", with_mixer(IdentityConfig()), 74.3),
        _row("random", "Random matrix", "frozen random mixing matrices in all stages", random, 75.8),
        _row("depthwise_conv", "Depthwise convolution", "3x3 depthwise convolution in all stages", depthwise, 78.1),
        *pools,
    )


def _parts(scale: Scale) -> tuple[Variant, ...]:
    base = scale.base

    def activation(name: str) -> MetaFormerConfig:
        return replace(base, channel_mlp=ChannelMLPConfig(activation=name))

    no_residual = ResidualConfig(skip=False, layer_scale_init=1e-5)
    shut = replace(base, residuals=(no_residual,))
    no_scale = replace(base, residuals=(replace(no_residual, layer_scale_init=None),))
    not_stated = "LayerScale not stated"
    controls = (
        _row("no_norm", "No norm", "normalisation left out", replace(base, norm=NoNormConfig()), 46.1),
        _row(
            "no_residual",
            "No residual, LayerScale 1e-5",
            "residual connections left out; LayerScale starts at 1e-5, as in the paper's S12",
            shut,
            0.1,
            not_stated,
        ),
        _row(
            "no_residual_no_scale",
            "No residual, no LayerScale",
            "residual connections and LayerScale left out",
            no_scale,
            0.1,
            not_stated,
        ),
        _row("no_channel_mlp", "No channel MLP", "channel MLPs left out", replace(base, channel_mlp=None), 5.7),
    )
    return (
        _row("layer_norm", "Layer norm", "layer norm for MLN", replace(base, norm=LayerNormConfig()), 76.5),
        _row("batch_norm", "Batch norm", "batch norm for MLN", replace(base, norm=BatchNormConfig()), 76.4),
        _row("relu", "ReLU", "ReLU for GELU", activation("relu"), 76.4),
        _row("silu", "SiLU", "SiLU for GELU", activation("silu"), 77.2),
        *(replace(row, control=True) for row in controls),
    )


def _hybrids(scale: Scale) -> tuple[Variant, ...]:
    pool, mlp, attention = PoolingConfig(), SpatialMLPConfig(), AttentionConfig(head_dim=scale.head_dim)
    # The hybrids with attention use layer norm, and one position embedding before the first attention stage.
    normed = replace(scale.base, norm=LayerNormConfig())
    pppa = replace(normed, token_mixers=(pool, pool, pool, attention), position_embedding_stages=(3,))
    ppaa = replace(normed, token_mixers=(pool, pool, attention, attention), position_embedding_stages=(2,))
    pppf = replace(scale.base, token_mixers=(pool, pool, pool, mlp))
    ppff = replace(scale.base, token_mixers=(pool, pool, mlp, mlp))
    with_attention = "with layer norm, as in the paper"
    rows = (
        _row("pppa", "Attention, stage 4", f"attention in stage 4; {with_attention}", pppa, 78.3),
        _row("ppaa", "Attention, stages 3-4", f"attention in stages 3 and 4; {with_attention}", ppaa, 81.0),
        _row("pppf", "Spatial MLP, stage 4", "spatial MLP in stage 4", pppf, 77.5),
        _row("ppff", "Spatial MLP, stages 3-4", "spatial MLP in stages 3 and 4", ppff, 77.9),
    )
    return tuple(replace(row, train=scale.hybrid_train) if "attention" in row.change else row for row in rows)


def _second_paper(scale: Scale) -> tuple[Variant, ...]:
    norm = LayerNormConfig(eps=1e-6, bias=False)
    stem, *others = scale.base.patch_embeddings
    plain, scaled = ResidualConfig(), ResidualConfig(res_scale_init=1.0)
    head = HeadConfig(norm=LayerNormConfig(eps=1e-6), norm_after_pooling=True)
    base = replace(
        scale.base,
        patch_embeddings=(replace(stem, post_norm=norm), *(replace(other, pre_norm=norm) for other in others)),
        norm=ModifiedLayerNormConfig(eps=1e-6, bias=False),
        channel_mlp=ChannelMLPConfig(activation="star_relu", bias=False),
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
        Variant(
            name=name,
            title=title,
            change=f"{_named(mixers)}; {family}",
            model=replace(model, token_mixers=mixers),
            paper_top1=top1,
            paper_note=f"{P2}, {size}",
        )
        for name, title, model, mixers, top1, size in rows
    )


def _named(mixers: tuple[TokenMixerConfig, ...]) -> str:
    names = {IdentityConfig: "identity", RandomMixingConfig: "random", PoolingConfig: "pooling"}
    names |= {SeparableConvConfig: "separable convolution", AttentionConfig: "attention"}
    return ", ".join(dict.fromkeys(names[type(mixer)] for mixer in mixers))


def _comparators(scale: Scale) -> tuple[Variant, ...]:
    rows = (
        ("resnet", "ResNet", "residual convolutions", 70.6, f"{TABLE_2}, RSB-ResNet-18"),
        ("resmlp", "ResMLP", "spatial MLPs on one grid", 76.6, f"{TABLE_2}, ResMLP-S12, 3.0 G MACs"),
        ("vit", "ViT", "attention on one grid", None, f"{TABLE_2} has DeiT-S, 4.6 G MACs: 79.8, beside S24 with 80.3"),
    )
    return tuple(
        Variant(
            name=name,
            title=title,
            change=f"another architecture: {what}",
            model=model,
            paper_top1=top1,
            paper_note=note,
            match="macs",
        )
        for (name, title, what, top1, note), model in zip(rows, scale.comparators, strict=True)
    )
