"""The fastest verified form of a model that is known without long waiting: what the package's own commands run.

A short command does not pay for a trial. It takes the choice of an earlier one, or what is known to be good on such
processors, checked against the model on a few images. Long work pays for a trial of its own.
"""

import time
import warnings

import torch
from torch import Tensor, nn

from metaformer.core.machine import instruction_sets
from metaformer.core.memory import keep_freed_memory
from metaformer.fast.candidates import CANDIDATES
from metaformer.fast.optimize import optimize
from metaformer.fast.stage import FoldedStage
from metaformer.fast.trial import ORIGINAL, build_candidate, cached_trial, expected_outputs
from metaformer.fast.verify import TOLERANCE, fresh_inputs, largest_difference
from metaformer.models.metaformer import MetaFormer
from metaformer.ops.native.build import is_built

# What a trial, which compiles, and the building of the C++ operators take at most; a twentieth of the work is worth it.
TRIAL_S, BUILD_S, SHARE = 120.0, 60.0, 0.05
BF16_UNITS = {"avx512_bf16", "amx_bf16", "bf16"}
NUM_CHECKED = 2  # images


def fastest_form(
    model: nn.Module, example: Tensor, *, dtype: torch.dtype | None = None, num_images: int | None = None
) -> nn.Module:
    """The model in a form that gives the same scores faster, or the model itself.

    Args:
        model: In evaluation mode; it stays as it is.
        example: A batch of images as it will get them; other batches may have other sizes.
        dtype: In which it may compute; None: its own.
        num_images: How many there will be, where that is known; many are worth a trial.
    """
    own = next((parameter.dtype for parameter in model.parameters()), None)
    dtype = own if dtype is None else dtype
    if not isinstance(model, MetaFormer) or dtype not in TOLERANCE or own != example.dtype or not len(example):
        return model
    if any(isinstance(stage, FoldedStage) for stage in model.stages):
        return model
    keep_freed_memory()
    few = example[:NUM_CHECKED]
    with torch.no_grad():
        inputs = fresh_inputs(few)
        started = time.perf_counter()
        expected = expected_outputs(model, inputs)
        work_s = (time.perf_counter() - started) / (len(inputs) * len(few)) * (num_images or 0)
        if SHARE * work_s > TRIAL_S:
            with warnings.catch_warnings():
                # That the model itself is fastest is no news here.
                warnings.simplefilter("ignore", UserWarning)
                return optimize(model, example, dtype=dtype)
        trial = cached_trial(model, example, dtype)
        names = (*([trial.chosen] if trial is not None else []), *known_good(dtype, example.device))
        for name in names:
            is_slow_to_make = name.endswith("compiled") or (name.startswith("native") and not is_built())
            if name == ORIGINAL:
                return model
            if name not in CANDIDATES or (is_slow_to_make and SHARE * work_s < BUILD_S):
                continue
            try:
                made = build_candidate(name, model, dtype, example)
                if largest_difference(made, inputs, expected) <= TOLERANCE[dtype]:
                    return made
            # Whatever is wrong with it, the next one may work; and the model itself does.
            except Exception:
                continue
    return model


def known_good(dtype: torch.dtype, device: torch.device) -> tuple[str, ...]:
    """Names in CANDIDATES, the best first, as measured on processors of this kind (docs/results/fast-path.md)."""
    if device.type != "cpu" or dtype == torch.float16:
        return ()
    if dtype == torch.bfloat16:
        has_units = BF16_UNITS & set(instruction_sets())
        return ("folded", "original, cast") if has_units else ("native, float32 inside", "folded")
    return ("native", "folded")
