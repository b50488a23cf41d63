"""How a model is trained."""

from dataclasses import dataclass

from metaformer.core.errors import ConfigError, unknown

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training recipe: timm's optimizers, a warm-up and a cosine."""

    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "adamw"  # a name that timm knows
    lr: float = 1e-3  # at the end of the warm-up
    min_lr: float = 1e-5  # at the end of the cosine
    warmup_lr: float = 1e-6  # at the start
    warmup_epochs: float | None = None  # None: a tenth of the epochs
    weight_decay: float = 0.05  # not on norms, biases and scales
    label_smoothing: float = 0.1
    clip_grad_norm: float | None = None  # largest norm of the gradient; None: as it is
    precision: str = "32-true"  # 32-true, bf16-mixed or 16-mixed
    channels_last: bool = True  # memory format; the fast one for small models on a CPU

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown("train.precision", self.precision, PRECISIONS)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("lr", "min_lr", "warmup_lr", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"train.{name} must be at least 0; got {getattr(self, name)}.")
        if not self.num_warmup_epochs >= 0:
            raise ConfigError(f"train.warmup_epochs must be at least 0, or None; got {self.warmup_epochs}.")
        if not self.num_warmup_epochs < self.epochs:
            raise ConfigError(
                f"train.warmup_epochs must be below train.epochs ({self.epochs}); got {self.num_warmup_epochs:g}. "
                f"Try --train.warmup-epochs {self.epochs / 10:g}."
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"train.label_smoothing must be in [0, 1); got {self.label_smoothing}.")
        if self.clip_grad_norm is not None and not self.clip_grad_norm > 0:
            raise ConfigError(f"train.clip_grad_norm must be above 0, or None; got {self.clip_grad_norm}.")

    @property
    def num_warmup_epochs(self) -> float:
        """How many epochs the learning rate rises."""
        return self.epochs / 10 if self.warmup_epochs is None else self.warmup_epochs
