"""Where the first number that is none came from."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from metaformer.core.errors import StoppedError
from metaformer.train.evaluation import Evaluation
from metaformer.train.processes import gather_numbers

BROKEN_IMAGES = "the images of the batch are not finite"


class DivergedError(StoppedError):
    """The loss, the gradient or a weight is no longer a finite number: the same run would end so again."""

    failure_kind = "diverged"

    def __init__(self, what: str, reason: str, *, epoch: int, step: int, value: float) -> None:
        super().__init__(f"{what} in epoch {epoch}, step {step}: {reason}")
        self.epoch, self.step = epoch, step  # the first of each is 1
        self.value = value  # that is no finite number

    failure_kind = "diverged"


def find_non_finite(model: nn.Module, images: Tensor, loss: float, fabric: Any) -> str:
    """Where it began, in the words of the process that knows best.

    That is one whose images are broken, since synchronised batch norm spreads them; else the first without a loss.
    """
    reason = first_non_finite(model, images, fabric)
    if fabric.world_size == 1:
        return reason
    certainty = gather_numbers([2.0 if reason == BROKEN_IMAGES else float(not math.isfinite(loss))], fabric)
    return str(fabric.broadcast(reason, src=certainty.index(max(certainty))))


@torch.no_grad()
def first_non_finite(model: nn.Module, images: Tensor, fabric: Any = None) -> str:
    """Names, in the order of the forward pass, the first layer with a weight or an output that is not finite."""
    # The forward pass runs all the same: batch norm may wait for this process in another one.
    found = [] if torch.isfinite(images).all() else [BROKEN_IMAGES]
    handles = []
    for name, module in model.named_modules():
        if not any(module.children()):
            handles.append(module.register_forward_hook(_note(name, found)))
    try:
        if fabric is None:
            model(images)
        else:
            with fabric.autocast():
                model(images)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    name = non_finite_parameter(model)
    return f"{name} is not finite" if name else "every layer is finite: the loss alone is not"


def require_finite_weights(model: nn.Module, *, epoch: int, step: int) -> None:
    """Looks before weights are saved or judged: the last step may have broken them.

    Raises:
        DivergedError: One of them is not finite.
    """
    if name := non_finite_parameter(model):
        value = next(float(v) for v in model.state_dict()[name].flatten().tolist() if not math.isfinite(v))
        raise DivergedError("the weights diverged", f"{name} is not finite", epoch=epoch, step=step, value=value)


def require_finite_scores(found: Evaluation, split: str, *, epoch: int, step: int) -> None:
    """Looks at what a model makes of a split, which may break where its weights do not.

    Raises:
        DivergedError: The loss is not finite, or a score is not.
    """
    if math.isfinite(found.loss) and not found.num_without_scores:
        return
    reason = (
        f"the weights are finite, and the scores of {found.num_without_scores} of {found.num_images} images are not"
    )
    raise DivergedError(f"the {split} loss became {found.loss}", reason, epoch=epoch, step=step, value=found.loss)


def non_finite_gradient(model: nn.Module) -> str:
    """Whose gradient, after clipping, holds a number that is not finite, in words."""
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    names = [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()]
    # Clipping by a norm that is not a number spoils all of them.
    if len(names) == len(gradients):
        return "that of some parameter is not finite"
    return f"that of {names[0]} is not finite" if names else "its parts are finite, and their sum of squares is not"


def non_finite_parameter(model: nn.Module) -> str | None:
    """The first parameter, or running statistic of a batch norm, that holds a number that is not finite."""
    statistics = ((name, value) for name, value in model.named_buffers() if "running_" in name)
    values = itertools.chain(model.named_parameters(), statistics)
    return next((name for name, value in values if not torch.isfinite(value).all()), None)


def _note(name: str, found: list[str]) -> Any:
    def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
        if found:
            return
        for part, value in module.named_parameters(recurse=False):
            if not torch.isfinite(value).all():
                found.append(f"{name}.{part} is not finite")
                return
        if isinstance(output, Tensor) and not torch.isfinite(output).all():
            found.append(f"the output of {name} is not finite")

    return hook
