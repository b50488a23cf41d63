"""`optimize`: a faster copy of a model with the same outputs, or the model itself and a warning."""

import warnings

import torch
from torch import Tensor, nn

from metaformer.core.errors import ConfigError, ShapeError
from metaformer.core.memory import keep_freed_memory
from metaformer.fast.stage import FoldedStage
from metaformer.fast.trial import ORIGINAL, Trial, build_candidate, cached_trial, expected_outputs, run_trial
from metaformer.fast.verify import TOLERANCE, fresh_inputs, largest_difference
from metaformer.models.metaformer import MetaFormer


def optimize(model: nn.Module, example: Tensor, *, dtype: torch.dtype | None = None, again: bool = False) -> nn.Module:
    """The fastest copy of the model for this machine, batch and dtype, for evaluation.

    Each way to run the model is checked against the model on the example and on random inputs of its shape, then
    timed; the result of the trial is kept for the next time, unless others used the machine meanwhile. The copy's
    attribute `trial` holds the table. The process then keeps the memory that it frees, as it did in the trial.

    Args:
        model: A MetaFormer; it stays as it is.
        example: A batch of images as the model will get them: its shape decides which way is fastest.
        dtype: Of features and weights inside; None keeps the model's. The copy takes and gives what the model does.
        again: Time all ways anew, even if an earlier trial fits.

    Returns:
        The copy; it may be the model cast or compiled. Where no other way is right and faster: the model itself, with
        one warning.

    Raises:
        ConfigError: The model is no MetaFormer, is optimized already, or the dtype is not one of floats.
        ShapeError: The example is no batch of images that the model can take.
    """
    if not isinstance(model, MetaFormer):
        raise ConfigError(f"optimize takes a MetaFormer; got {type(model).__name__}. Build one with create_model.")
    dtype = _check_request(model, example, dtype)
    trial = None if again else cached_trial(model, example, dtype)
    chosen = _rebuilt(trial, model, example, dtype) if trial else None
    if trial is None or (chosen is None and trial.chosen != ORIGINAL):
        trial, chosen = run_trial(model, example, dtype)
    if chosen is None:
        warnings.warn(
            f"no other way to run this model is right and faster here; it is returned as it is.\n{trial}", stacklevel=2
        )
        chosen = model
    # Not a field of the module: a plain attribute, which state_dict does not know.
    object.__setattr__(chosen, "trial", trial)
    return chosen


def trial_of(model: nn.Module) -> Trial:
    """The table of the trial that `optimize` chose this model by.

    Raises:
        ConfigError: The model does not come from `optimize`.
    """
    trial = getattr(model, "trial", None)
    if not isinstance(trial, Trial):
        raise ConfigError(f"{type(model).__name__} has no trial: it does not come from optimize().")
    return trial


def _rebuilt(trial: Trial, model: MetaFormer, example: Tensor, dtype: torch.dtype) -> nn.Module | None:
    """The choice of an earlier trial, checked again; None if it is the original or no longer right."""
    if trial.chosen == ORIGINAL:
        return None
    keep_freed_memory()
    inputs = fresh_inputs(example)
    with torch.no_grad():
        try:
            chosen = build_candidate(trial.chosen, model, dtype, example)
            difference = largest_difference(chosen, inputs, expected_outputs(model, inputs))
        # Whatever went wrong with it this time, a new trial finds out what is left.
        except Exception:
            return None
    return chosen if difference <= TOLERANCE[dtype] else None


def _check_request(model: MetaFormer, example: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    if any(isinstance(stage, FoldedStage) for stage in model.stages):
        raise ConfigError("this model is optimized already: optimize takes the model that it was made from.")
    own = next(model.parameters()).dtype
    if example.dtype != own:
        raise ShapeError(f"the example must have the dtype of the model, {own}; got {example.dtype}.")
    if example.ndim != 4 or example.shape[0] < 1 or example.shape[1] != model.in_chans:
        raise ShapeError(f"the example must be images as (B, {model.in_chans}, H, W); got {tuple(example.shape)}.")
    dtype = own if dtype is None else dtype
    if dtype not in TOLERANCE:
        known = ", ".join(str(one).removeprefix("torch.") for one in TOLERANCE)
        raise ConfigError(f"dtype must be one of {known}; got {str(dtype).removeprefix('torch.')}.")
    return dtype
