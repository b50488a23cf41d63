"""What is trained and how: the run, its recipe, which decides the result, and its execution, which does not."""

from dataclasses import dataclass, field
from functools import partial

import torch

from metaformer.core.checked import check_number
from metaformer.core.errors import ConfigError, unknown
from metaformer.data.preparation import Preparation
from metaformer.models.timm_model import ModelConfig
from metaformer.train.mixing import MixingConfig

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# What matrices are multiplied in, where that is not the dtype of the features.
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
SCHEDULES = ("cosine", "linear", "constant")
TRAINABLE = ("all", "head")
FINAL_WEIGHTS = ("last", "best")
# Processes that read images; more than that is a slip of the finger.
MOST_WORKERS = 1024
LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training recipe: timm's optimizers and schedules, mixing, averaging."""

    epochs: int = 20  # how often every training image is seen
    batch_size: int = 64  # images a step, over all processes
    optimizer: str = "adamw"  # a name that timm knows
    lr: float = 1e-3  # at the end of the warm-up
    lr_batch_size: int | None = None  # lr is for so many images a step, and in proportion for others; None: as it is
    min_lr: float = 1e-5  # at the end of the schedule
    warmup_lr: float = 1e-6  # at the start
    warmup_epochs: float | None = None  # None: a tenth of the epochs
    cooldown_epochs: float = 0.0  # the last of the epochs, at min_lr
    schedule: str = "cosine"  # cosine, linear or constant
    weight_decay: float = 0.05  # not on norms, biases and scales
    momentum: float = 0.9  # of optimizers that have one; AdamW and LAMB keep their betas
    layer_decay: float | None = None  # the rate of each layer, as a share of the next one's; None: one rate for all
    trainable: str = "all"  # all, or head: the rest keeps its weights
    whitening: bool = False
    """The patch embedding starts with the directions in which patches of training images vary most."""

    label_smoothing: float = 0.1  # share of each label that is spread over all classes
    mixing: MixingConfig = field(default_factory=MixingConfig)
    clip_grad_norm: float | None = None  # largest norm of the gradient; None: as it is
    ema_decay: float | None = None  # average the weights over steps, evaluate and keep the average; None: do not
    early_stopping_epochs: int | None = None  # without a better validation accuracy; None: never
    final_weights: str = "last"  # or best: those of the epoch with the best validation accuracy
    precision: str = "32-true"  # 32-true, bf16-mixed or 16-mixed
    channels_last: bool = True  # memory format; the fast one on CPUs and tensor cores

    def __post_init__(self) -> None:
        self._check_names()
        check = partial(check_number, self, group="train")
        for name in ("epochs", "batch_size", "lr_batch_size", "early_stopping_epochs"):
            check(name, whole=True, least=1, optional=name in ("lr_batch_size", "early_stopping_epochs"))
        for name in ("lr", "min_lr", "warmup_lr"):
            # Whoever asks for a rate that is far too high gets a run that diverges.
            check(name, least=0, most=torch.finfo(torch.float32).max)
        for name in ("cooldown_epochs", "weight_decay"):
            check(name, least=0)
        check("warmup_epochs", least=0, optional=True)
        self._check_schedule()
        for name in ("label_smoothing", "momentum"):
            check(name, least=0, below=1)
        check("clip_grad_norm", above=0, optional=True)
        check("ema_decay", above=0, below=1, optional=True, hint="Try 0.9999.")
        check("layer_decay", above=0, most=1, optional=True)

    def _check_names(self) -> None:
        tables = {
            "precision": PRECISIONS,
            "schedule": SCHEDULES,
            "trainable": TRAINABLE,
            "final_weights": FINAL_WEIGHTS,
        }
        for name, known in tables.items():
            if getattr(self, name) not in known:
                raise unknown(f"train.{name}", getattr(self, name), known)

    def _check_schedule(self) -> None:
        if not self.num_warmup_epochs < self.epochs:
            raise ConfigError(
                f"train.warmup_epochs must be below train.epochs ({self.epochs}); got {self.num_warmup_epochs:g}. "
                f"Try --train.warmup-epochs {self.epochs / 10:g}."
            )
        if self.schedule == "constant" and self.cooldown_epochs > 0:
            raise ConfigError(
                f"train.cooldown_epochs needs a train.schedule that falls to train.min_lr; got "
                f"{self.cooldown_epochs:g} with 'constant'. Try --train.cooldown-epochs 0."
            )
        if not self.num_warmup_epochs + self.cooldown_epochs < self.epochs:
            raise ConfigError(
                f"train.cooldown_epochs and the warm-up ({self.num_warmup_epochs:g}) must leave some of train.epochs "
                f"({self.epochs}) between them; got {self.cooldown_epochs:g}."
            )

    @property
    def num_warmup_epochs(self) -> float:
        """How many epochs the learning rate rises."""
        return self.epochs / 10 if self.warmup_epochs is None else self.warmup_epochs

    @property
    def peak_lr(self) -> float:
        """The learning rate at the end of the warm-up, for this batch size."""
        return self.lr if self.lr_batch_size is None else self.lr * self.batch_size / self.lr_batch_size


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Settings of a machine rather than of a recipe.

    The result stays the same up to float noise; only batch norm sees smaller batches where a step is taken in parts.
    """

    micro_batch_size: int | None = None  # images at once in a process; gradients add up over a step's; None: all
    compile: bool = False  # torch.compile: minutes at the start, faster steps
    fast: bool = False  # fused operators in the blocks, where the modified layer norm and pooling or an MLP allow it
    # With fast, on a CPU: keep the hidden tensors of the MLPs for the backward pass; else compute them again.
    keep_hidden: bool = True
    grad_checkpointing: bool = False  # compute activations twice instead of keeping them
    num_workers: int = 0  # processes that read images, for data that do not fit into memory
    checkpoint_minutes: float = 5.0  # at least so often, besides after every epoch
    checkpoint_steps: int | None = None  # and after so many steps; None: by the clock alone
    keep_checkpoints: int = 2  # the last so many
    save_best: bool = True  # keep the weights of the best epoch in best.safetensors
    loggers: tuple[str, ...] = ("csv",)  # csv, tensorboard, wandb, mlflow
    log_steps: int = 20  # a line in the log after so many steps
    device: str = "auto"  # auto, cpu, cuda, ...

    def __post_init__(self) -> None:
        check = partial(check_number, self, group="execution")
        for name in ("micro_batch_size", "checkpoint_steps", "keep_checkpoints", "log_steps"):
            check(name, whole=True, least=1, optional=name in ("micro_batch_size", "checkpoint_steps"))
        check("num_workers", whole=True, least=0, most=MOST_WORKERS)
        check("checkpoint_minutes", above=0)
        for name in self.loggers:
            if name not in LOGGERS:
                raise unknown("execution.loggers", name, LOGGERS)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is trained, on what, how."""

    name: str
    model: ModelConfig
    data: str  # name of the data source
    preparation: Preparation = field(default_factory=Preparation)
    train: TrainConfig
    seed: int
    weights: str | None = None  # to start from: a file of any known layout, run folder, URL or hub id
