"""How a training is carried out: what changes its speed, memory and safety, and not its result."""

from dataclasses import dataclass, field

from metaformer.core.configs import LATER
from metaformer.core.errors import ConfigError, unknown

LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Settings of a machine rather than of a recipe.

    The result stays the same up to float noise; only batch norm sees smaller batches where a step is taken in parts.
    """

    micro_batch_size: int | None = None  # images at once in a process; gradients add up over a step's; None: all
    compile: bool = False  # torch.compile: minutes at the start, faster steps
    fast: bool = False  # fused operators in the blocks, where the modified layer norm and pooling or an MLP allow it
    # With fast, on a CPU: keep the hidden tensors of the MLPs for the backward pass; else compute them again.
    keep_hidden: bool = field(default=True, metadata=LATER)
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
        for name in ("micro_batch_size", "checkpoint_steps", "keep_checkpoints", "log_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"execution.{name} must be at least 1; got {value}.")
        if self.num_workers < 0:
            raise ConfigError(f"execution.num_workers must be at least 0; got {self.num_workers}.")
        if not self.checkpoint_minutes > 0:
            raise ConfigError(f"execution.checkpoint_minutes must be above 0; got {self.checkpoint_minutes}.")
        for name in self.loggers:
            if name not in LOGGERS:
                raise unknown("execution.loggers", name, LOGGERS)
