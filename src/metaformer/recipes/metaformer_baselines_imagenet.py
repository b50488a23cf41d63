"""The second paper's recipes on ImageNet-1K."""

from dataclasses import replace

from metaformer.core.errors import unknown
from metaformer.models.zoo import ZOO
from metaformer.recipes.poolformer_imagenet import AUGMENTATION, IMAGENET_RECIPE, photographs
from metaformer.train.config import Run
from metaformer.train.mixing import MixingConfig

# Rate of stochastic depth in the last block, and of dropout in the head.
BASIC_DROP_PATH = {"s12": 0.1, "s24": 0.1, "s36": 0.2, "m36": 0.3, "m48": 0.4}
DROP_PATH = {
    "identityformer": BASIC_DROP_PATH,
    "randformer": BASIC_DROP_PATH | {"m48": 0.3},
    "poolformerv2": BASIC_DROP_PATH,
    "convformer": {"s18": 0.2, "s36": 0.3, "m36": 0.4, "b36": 0.6},
    "caformer": {"s18": 0.15, "s36": 0.3, "m36": 0.4, "b36": 0.6},
}
HEAD_DROPOUT = {"caformer": {"s18": 0.0, "s36": 0.4, "m36": 0.4, "b36": 0.5}}
MODELS = tuple(name for name in ZOO if name.split("_")[0] in DROP_PATH)


def metaformer_baselines_imagenet(model: str = "convformer_s18") -> Run:
    """The second paper on ImageNet: 310 epochs at 224; for a model whose name ends in _384, the 30 of fine-tuning.

    Command: `torchrun --nproc-per-node 8 -m metaformer train metaformer-baselines-imagenet --data imagenet --model
    caformer_s18`, then `... --model caformer_s18_384 --weights runs/...`. Hardware: 8 GPUs of 40 GB with
    `--execution.micro-batch-size 128`. Time: days on eight GPUs; the authors give an A100 361 images/s in training
    CAFormer-S18, so 310 epochs take about 13 days on one, 1.6 on eight. Result by the paper at 224: IdentityFormer-S12
    74.6, RandFormer-S12 76.6, PoolFormerV2-S12 78.0, ConvFormer-S18 83.0, CAFormer-S18 83.6%; at 384 ConvFormer-S18
    84.4, CAFormer-S18 85.0%. Not run here.

    Args:
        model: identityformer_*, randformer_*, poolformerv2_*, convformer_*, caformer_*.

    Raises:
        ConfigError: The recipe is for other models.

    Source: arXiv:2210.13452, appendix, and the authors' scripts: AdamW 4e-3 at batch 4096, LAMB 8e-3 for CAFormer,
    warm-up 20 epochs (5 for the basic families); at 384 a constant rate, weights averaged, no mixup and cutmix. The
    last 10 of the 310 epochs are timm's cooldown. The batch size of the fine-tuning is not stated: 1024 is taken, and
    stochastic depth and head dropout stay.
    """
    if model not in MODELS:
        raise unknown("model of the recipe metaformer-baselines-imagenet", model, MODELS)
    family, size = model.split("_")[:2]
    config = replace(ZOO[model], drop_path=DROP_PATH[family][size])
    dropout = HEAD_DROPOUT.get(family, {}).get(size, 0.0)
    config = replace(config, head=replace(config.head, dropout=dropout))
    is_basic = family in ("identityformer", "randformer", "poolformerv2")
    uses_lamb = family == "caformer"
    train = replace(
        IMAGENET_RECIPE,
        optimizer="lamb" if uses_lamb else "adamw",
        lr=2e-3 if uses_lamb else 1e-3,
        warmup_epochs=5.0 if is_basic else 20.0,
    )
    if model.endswith("_384"):
        train = replace(
            train,
            epochs=30,
            cooldown_epochs=0.0,
            warmup_epochs=0.0,
            batch_size=1024,
            lr=1e-4 if uses_lamb else 5e-5,
            lr_batch_size=None,
            schedule="constant",
            ema_decay=0.9999,
            mixing=MixingConfig(),
        )
    return Run(name=model, model=config, data="", preparation=photographs(config, AUGMENTATION), train=train, seed=0)
