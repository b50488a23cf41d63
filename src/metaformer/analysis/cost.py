"""What one image costs: parameters, multiply-adds, activations."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.hooks import RemovableHandle

from metaformer.core.errors import ConfigError

RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# Neither computes: they allocate, copy or relabel.
DATA_MOVEMENT = {
    f"aten.{name}" for name in ("_to_copy", "_unsafe_view", "cat", "clone", "copy_", "detach", "empty", "zeros")
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one image."""

    input_shape: tuple[int, ...]  # channels, then the side along each axis
    params: int  # numbers that are trained
    frozen: int  # fixed numbers of the function, as a random matrix; not running statistics
    macs: int  # multiply-adds
    activations: int  # elements that convolutions and matrix products write
    macs_by_module: dict[str, int]  # by module path; the sum is `macs`
    not_counted: dict[str, int]  # operators that `macs` leaves out -> elements that they write

    def macs_under(self, path: str) -> int:
        """Multiply-adds of a module and of all that is inside it."""
        return sum(macs for inner, macs in self.macs_by_module.items() if inner == path or inner.startswith(f"{path}."))


def profile(model: nn.Module, image_size: int | tuple[int, ...] = 224, *, in_chans: int | None = None) -> Cost:
    """Counts what one image costs, in evaluation mode, without computing anything.

    Counted as the paper counts, with the rules of fvcore: convolutions, matrix products and attention (2 N^2 C)
    exactly, and so our own fused operators, by what they register with PyTorch; group norm 5 and batch norm 2 per
    element; pooling, layer norm, activations and sums not at all, but they are named in `not_counted`.

    Args:
        model: Any module that takes a batch of images; on any device, the meta device too.
        image_size: Side, or the side along each axis, in pixels.
        in_chans: Channels of the image; None takes those of the first convolution.

    Raises:
        ShapeError: The model is tied to another image size.
        ConfigError: The number of channels is not known.

    Source: arXiv:2111.11418, Tables 1 and 5 (counted with fvcore by the authors).
    """
    first_channels, num_axes = _first_convolution(model)
    sides = (image_size,) * num_axes if isinstance(image_size, int) else image_size
    if not (in_chans or first_channels):
        raise ConfigError(
            "in_chans must be given: the model has no convolution that tells how many channels images have."
        )
    shape = (in_chans or first_channels, *sides)
    training = {module: module.training for module in model.modules()}
    counter = _CostCounter()
    first = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), torch.empty(0, device="cpu"))
    try:
        model.eval()
        with (
            torch.no_grad(),
            # What a compiler made of the model is no operator that anybody could count.
            torch.compiler.set_stance("force_eager"),
            _attention_in_parts(),
            _track_paths(model, counter),
            # On the meta device nothing is computed anyway.
            nullcontext() if first.is_meta else FakeTensorMode(allow_non_fake_inputs=True),
            counter,
        ):
            model(torch.empty(1, *shape, device=first.device, dtype=first.dtype))
    finally:
        for module, mode in training.items():
            module.training = mode
    return Cost(
        input_shape=shape,
        params=sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad),
        frozen=_count_frozen(model),
        macs=sum(counter.macs.values()),
        activations=counter.activations,
        macs_by_module=dict(counter.macs),
        not_counted=dict(counter.not_counted.most_common()),
    )


def _first_convolution(model: nn.Module) -> tuple[int, int]:
    """Input channels and axes, of the first convolution; the channels as the model states them; 0, 2 for neither."""
    stated = getattr(model, "in_chans", None)
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            channels = stated if isinstance(stated, int) else module.in_channels
            return channels, len(module.kernel_size)
    return stated if isinstance(stated, int) else 0, 2


def _count_frozen(model: nn.Module) -> int:
    frozen: list[Tensor] = [tensor for tensor in model.parameters() if not tensor.requires_grad]
    frozen += [
        tensor
        for name, tensor in model.named_buffers()
        if tensor.is_floating_point() and name.rpartition(".")[2] not in RUNNING_STATISTICS
    ]
    return sum(tensor.numel() for tensor in frozen)


def _norm_macs(per_element: int) -> Callable[[tuple[Any, ...]], int]:
    return lambda args: per_element * args[0].numel()


# fvcore's rules for an affine norm.
NORM_MACS: dict[Any, Callable[[tuple[Any, ...]], int]] = {
    torch.ops.aten.native_group_norm: _norm_macs(5),
    torch.ops.aten.native_batch_norm: _norm_macs(2),
    torch.ops.aten.cudnn_batch_norm: _norm_macs(2),
    torch.ops.aten._native_batch_norm_legit_no_training: _norm_macs(2),
    torch.ops.aten._batch_norm_no_update: _norm_macs(2),
}


class _CostCounter(TorchDispatchMode):
    """Sees every operator that runs, and books its cost to the module that runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = [""]
        self.macs: Counter[str] = Counter()
        self.not_counted: Counter[str] = Counter()
        self.activations = 0

    def enter(self, path: str, _module: nn.Module, _args: Any) -> None:
        self.path.append(path)

    def leave(self, _module: nn.Module, _args: Any, _out: Any) -> None:
        self.path.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if func.namespace == "aten" and packet not in flop_registry and packet not in NORM_MACS:
            # A composite operator, as some attention is, shows its parts.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if packet in flop_registry:
            self.macs[self.path[-1]] += int(flop_registry[packet](*args, **kwargs, out_val=out)) // 2
            self.activations += _elements(out)
        elif packet in NORM_MACS:
            self.macs[self.path[-1]] += NORM_MACS[packet](args)
        elif func.namespace == "aten" and not func.is_view and str(packet) not in DATA_MOVEMENT and _elements(out):
            self.not_counted[packet.__name__] += _elements(out)
        return out


def _elements(out: Any) -> int:
    first = out[0] if isinstance(out, tuple | list) and out else out
    return first.numel() if isinstance(first, Tensor) else 0


@contextmanager
def _attention_in_parts() -> Iterator[None]:
    """While the block runs, attention is made of matrix products; fused, it is another operator on each device."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


@contextmanager
def _track_paths(model: nn.Module, counter: _CostCounter) -> Iterator[None]:
    """While the block runs, `counter.path` ends with the path of the module that runs."""
    hooks: list[RemovableHandle] = []
    for path, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(partial(counter.enter, path)))
        hooks.append(module.register_forward_hook(counter.leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
