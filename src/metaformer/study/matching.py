"""Variants at equal cost: their width is changed until they cost what the base costs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from metaformer.analysis.cost import Cost, profile
from metaformer.core.errors import ConfigError, unknown
from metaformer.data.source import DataSource
from metaformer.models.config import MetaFormerConfig
from metaformer.models.timm_model import ModelConfig, TimmModelConfig, build_model
from metaformer.study.config import PlannedVariant, StudyConfig, choose_variants
from metaformer.study.width import describe, scaled, steps, with_dims
from metaformer.train.first_model import fit_to_data

MEASURES = ("params", "macs")
# A row this near to the base's cost stays as it is: a norm that the count leaves out is no reason to widen a model.
NEAR = 0.04
# A row that is changed gets so near, where its channels allow.
TOLERANCE = 0.01
NARROWEST, WIDEST = 1 / 16, 16.0
# Halvings of the range of widths; a channel step of four is reached before.
NUM_HALVINGS = 14
MOST_STEPS = 6  # of single stages, after that


def matched(study: StudyConfig, measure: str, data: DataSource) -> StudyConfig:
    """The study with each variant as wide as it must be to cost what the base costs.

    Rows within 4% stay as they are; the others come within 1%, where their channels allow. A change
    of width stands in the variant's config and in its words.

    Args:
        study: What to compare.
        measure: `params` (trained and frozen ones) or `macs` (of one image), for all rows but those that ask for a
            measure themselves, as models of other architectures do; "" leaves the others as they are.
        data: Decides the image size and the number of classes, which cost too.

    Raises:
        ConfigError: There is no such measure, or the base is not among the variants.
    """
    if measure and measure not in MEASURES:
        raise unknown("measure to match", measure, MEASURES)
    costs = {name: _Costs(name, data) for name in MEASURES}
    (base,) = choose_variants(study, (study.base,))
    rows = []
    for row in study.variants:
        # What a row asks for comes first: the claim that it is there for rests on that cost.
        asked = row.match or measure
        rows.append(_matched(row, base.model, costs[asked]) if asked and row is not base else row)
    return replace(study, variants=tuple(rows))


def cost_of(config: ModelConfig, data: DataSource) -> Cost:
    """What a model costs on one image of the data, counted without computing anything.

    Raises:
        ConfigError: The model cannot be built.
    """
    with torch.device("meta"):
        model = build_model(fit_to_data(config, data))
    return profile(model, data.facts.image_size, in_chans=data.facts.in_chans)


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    model: ModelConfig
    error: float  # cost / target - 1


class _Costs:
    """Counts each config once."""

    def __init__(self, measure: str, data: DataSource) -> None:
        self.measure, self.data = measure, data
        self._known: dict[str, int] = {}

    def of(self, config: ModelConfig) -> int:
        key = repr(config)
        if key not in self._known:
            cost = cost_of(config, self.data)
            self._known[key] = cost.macs if self.measure == "macs" else cost.params + cost.frozen
        return self._known[key]


def _matched(row: PlannedVariant, base: ModelConfig, costs: _Costs) -> PlannedVariant:
    target = costs.of(base)
    try:
        error = costs.of(row.model) / target - 1
    except ConfigError:
        # The run of this row will say what is wrong with it.
        return row
    can_change = isinstance(row.model, MetaFormerConfig) or bool(row.model.width_options)
    if abs(error) <= NEAR or not can_change:
        return row
    best = _search(row.model, lambda model: costs.of(model) / target - 1)
    if best.model == row.model:
        return row
    what = "MACs" if costs.measure == "macs" else "parameters"
    rest = "" if abs(best.error) <= TOLERANCE else f" ({best.error:+.1%} is the nearest that its channels allow)"
    change = f"{row.about.change}; {describe(best.model)} for equal {what}{rest}"
    return replace(row, model=best.model, about=replace(row.about, change=change))


def _search(model: ModelConfig, error_of: Callable[[ModelConfig], float]) -> _Candidate:
    """Halves the range of widths, then tries the neighbours of the nearest, one stage at a time."""
    low, high = NARROWEST, WIDEST
    best = _Candidate(model=model, error=error_of(model))
    for _ in range(NUM_HALVINGS):
        width = (low * high) ** 0.5
        here = _candidate(scaled(model, width), error_of)
        best = min(best, here, key=_badness)
        low, high = (low, width) if here.error > 0 else (width, high)
    for _ in range(MOST_STEPS):
        nearest = min([best, *(_candidate(other, error_of) for other in _neighbours(best.model))], key=_badness)
        if nearest is best or _badness(best) <= TOLERANCE:
            break
        best = nearest
    return best


def _candidate(model: ModelConfig, error_of: Callable[[ModelConfig], float]) -> _Candidate:
    try:
        return _Candidate(model=model, error=error_of(model))
    except ConfigError:
        # A width that one of its parts refuses.
        return _Candidate(model=model, error=float("inf"))


def _badness(candidate: _Candidate) -> float:
    return abs(candidate.error)


def _neighbours(model: ModelConfig) -> Iterator[ModelConfig]:
    """One stage a step wider or narrower."""
    if isinstance(model, TimmModelConfig):
        return
    for stage, step in enumerate(steps(model)):
        for dim in (model.dims[stage] - step, model.dims[stage] + step):
            if dim >= step:
                yield with_dims(model, (*model.dims[:stage], dim, *model.dims[stage + 1 :]))
