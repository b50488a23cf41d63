"""A training step, ours beside timm's: time in turns, peak memory each in a process of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaformer.core.compiling import compile_module
from metaformer.core.fresh_process import in_fresh_process
from metaformer.core.memory import added_memory_mib
from metaformer.fast.bench.peers import BenchCase, bench_case, timm_state
from metaformer.fast.contest import Call, Cell, Rules, hold_contest
from metaformer.fast.for_training import for_training
from metaformer.fast.verify import TOLERANCE
from metaformer.ops.spare_buffers import clear_spare_buffers

OURS, REFERENCE = "ours, for_training", "ours, eager"
# Weights, gradients, and both moments of AdamW.
HELD = 4


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A training step of several contestants, and what a training holds at the peak of a step."""

    name: str
    batch_size: int
    side_px: int
    dtype: str
    cells: tuple[Cell, ...]
    peak_mib: dict[str, float]


def _fused(one: BenchCase) -> nn.Module:
    return for_training(one.model, products=one.dtype).to(memory_format=torch.channels_last)


def _fused_least_memory(one: BenchCase) -> nn.Module:
    return for_training(one.model, keep_hidden=False, products=one.dtype).to(memory_format=torch.channels_last)


def _as_created(one: BenchCase) -> nn.Module:
    return one.model.to(memory_format=torch.channels_last)


def _timm(one: BenchCase) -> nn.Module:
    model = timm.create_model(one.name)
    model.load_state_dict(timm_state(one.name, one.model))
    return model


def _timm_channels_last(one: BenchCase) -> nn.Module:
    return _timm(one).to(memory_format=torch.channels_last)


def _timm_compiled(one: BenchCase) -> nn.Module:
    return compile_module(_timm_channels_last(one))


CONTESTANTS: dict[str, Callable[[BenchCase], nn.Module]] = {
    OURS: _fused,
    "ours, for_training, least memory": _fused_least_memory,
    "ours, eager": _as_created,
    "timm, eager": _timm,
    "timm, channels last": _timm_channels_last,
    "timm, channels last, compiled": _timm_compiled,
}


def run_training(
    name: str,
    *,
    batch_size: int,
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    contestants: tuple[str, ...] = tuple(CONTESTANTS),
    rounds: int = 10,
    budget_s: float | None = None,
    watch: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Checks the losses of two steps, times forward, backward and AdamW's step in turns; then measures memory.

    Args:
        name: A model of the zoo.
        batch_size: Images of a step.
        image_size: Side in pixels; None is the model's own.
        dtype: float32, or that of autocast.
        contestants: Names in CONTESTANTS; ours is always among them.
        rounds: How often each is timed.
        budget_s: No further round begins after so many seconds; 3 are always made.
        watch: Told what is done.
    """
    chosen = [who for who in CONTESTANTS if who in contestants or who == OURS]
    arguments = (name, batch_size, image_size, dtype)
    watch("the losses to be expected")
    expected = _two_losses(training_step(REFERENCE, name, batch_size, image_size, torch.float32))
    # AdamW's first step goes by the signs of the gradients, which noise can turn.
    rules = Rules(base=OURS, allowed=10 * TOLERANCE[dtype], rounds=rounds, budget_s=budget_s, watch=watch)

    def difference(step: Call) -> float:
        return float(((_two_losses(step) - expected).abs() / expected.abs()).max())

    outcome = hold_contest({who: partial(training_step, who, *arguments) for who in chosen}, difference, rules)
    peak_mib = {}
    for who in outcome.calls:
        watch(f"memory of {who}")
        peak = peak_memory_mib(who, *arguments)
        if peak is not None:
            peak_mib[who] = peak
    side = image_size or bench_case(name, batch_size=1, image_size=None, dtype=dtype).example.shape[-1]
    return TrainingResult(
        name=name,
        batch_size=batch_size,
        side_px=side,
        dtype=str(dtype).removeprefix("torch."),
        cells=tuple(outcome.cells[who] for who in chosen),
        peak_mib=peak_mib,
    )


def _two_losses(step: Call) -> Tensor:
    """The first shows whether the forward pass is right, the second whether the gradients are."""
    return torch.stack([step(), step()])


def training_step(
    who: str, name: str, batch_size: int, image_size: int | None, dtype: torch.dtype
) -> Callable[[], Tensor]:
    """One step of a contestant, ready to be called; returns the loss."""
    one = bench_case(name, batch_size=batch_size, image_size=image_size, dtype=dtype)
    one.model.requires_grad_(True)
    model = CONTESTANTS[who](one).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels = torch.arange(batch_size) % one.model.num_classes
    # The format of the input decides that of all features.
    image_format = torch.contiguous_format if who == "timm, eager" else torch.channels_last
    images = one.example.contiguous(memory_format=image_format)

    def step() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def peak_memory_mib(who: str, name: str, batch_size: int, image_size: int | None, dtype: torch.dtype) -> float | None:
    """What a training holds at the peak of a step: weights, gradients, AdamW's moments, and what the step adds.

    Measured in a fresh process, in its second step: libraries and compiler are not the model's. None where the system
    does not tell, or has too little memory.
    """
    try:
        return in_fresh_process(_peak_in_this_process, who, name, batch_size, image_size, dtype)
    # Times that are measured already are worth more than this number.
    except Exception:
        return None


def _peak_in_this_process(
    who: str, name: str, batch_size: int, image_size: int | None, dtype: torch.dtype
) -> float | None:
    step = training_step(who, name, batch_size, image_size, dtype)
    step()
    # What a contestant keeps from step to step belongs to its step.
    clear_spare_buffers()
    added = added_memory_mib(step)
    parameters = sum(
        parameter.nbytes for parameter in bench_case(name, batch_size=1, image_size=64, dtype=dtype).model.parameters()
    )
    return None if added is None else added + HELD * parameters / 2**20
