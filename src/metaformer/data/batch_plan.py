"""Which images of an epoch a process trains on, step by step."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from metaformer.core.errors import ConfigError

# Signals and volumes too: one, two or three axes behind the channels.
Images = Float[Tensor, "n c *size"]
Labels = Int64[Tensor, " n"]
Batch = tuple[Images, Labels]


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """One epoch of one process.

    The order of an epoch's images is decided by seed and epoch alone. Step s takes the images s * batch_size to
    (s + 1) * batch_size of it, and each process an equal, contiguous part of those, so that any number of processes
    trains on the same global batches. What does not fill a last batch waits for another epoch's order.
    """

    seed: int
    epoch: int
    batch_size: int  # images a step, over all processes
    first_step: int = 0  # steps of the epoch that are done already
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            raise ConfigError(
                f"train.batch_size must be a multiple of the number of processes ({self.world_size}); got "
                f"{self.batch_size}. Try {self.batch_size - self.batch_size % self.world_size or self.world_size}."
            )

    def num_steps(self, num_images: int) -> int:
        """Steps an epoch: full batches; one smaller batch where there are not enough images for a full one."""
        return max(1, num_images // self.batch_size)

    def parts(self, num_images: int) -> Iterator[slice]:
        """For each step to do, this process's part of the epoch's order."""
        batch_size = min(self.batch_size, num_images - num_images % self.world_size)
        local = batch_size // self.world_size
        for step in range(self.first_step, self.num_steps(num_images)):
            start = step * batch_size + self.rank * local
            yield slice(start, start + local)
