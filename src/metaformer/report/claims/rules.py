"""The rules that turn measurements into verdicts: one function a claim. Each is said in words in `claims.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metaformer.core.records import CostSeries, Exponent
from metaformer.report.claims.evidence import Contrast, Evidence, UntestedError

ClaimVerdict = Literal["holds", "contradicted", "not told apart", "not tested at this scale"]

COMPETITIVE_POINTS = 1.0  # what may be lost against another architecture and still be called competitive
HARDLY_POINTS = 1.0  # a difference that hardly matters
PERFORMS_WELL = 0.9  # of what the base learned
FAR_WORSE = 0.75
WORKS = 0.5
NOT_CONVERGED, NOT_USEFUL = 0.1, 0.25
LINEAR, SUPERLINEAR = 1.25, 1.5  # exponents of tokens

COMPARATORS = ("resnet", "resmlp", "vit")
WITHOUT_RESIDUAL = ("no_residual", "no_residual_no_scale", "no_residual_scale_1")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule found."""

    verdict: ClaimVerdict
    ours: str  # the figures


def architecture_matters_more(evidence: Evidence) -> Finding:
    """C1."""
    found = [evidence.at_equal_macs(name) for name in COMPARATORS]
    if any(one.verdict == "better" for one in found):
        return _finding("contradicted", found)
    return _finding("holds" if all(one.high <= COMPETITIVE_POINTS for one in found) else "not told apart", found)


def identity_performs_well(evidence: Evidence) -> Finding:
    """C2."""
    identity, level = evidence.against_base("identity"), evidence.level("identity", PERFORMS_WELL)
    if level.low >= 0:
        return _finding("holds", [identity])
    return _finding("contradicted" if level.high < 0 else "not told apart", [identity])


def random_beats_identity(evidence: Evidence) -> Finding:
    """C3."""
    pair, level = evidence.between("random", "identity"), evidence.level("random", WORKS)
    ours = f"{pair.text}; {level.text}"
    if pair.verdict == "worse" or level.high < 0:
        return Finding(verdict="contradicted", ours=ours)
    holds = pair.verdict == "better" and level.low >= 0
    return Finding(verdict="holds" if holds else "not told apart", ours=ours)


def depthwise_beats_pooling(evidence: Evidence) -> Finding:
    """C4."""
    return _all_of([evidence.against_base("depthwise_conv")], wanted="better")


def gelu_and_silu_beat_relu(evidence: Evidence) -> Finding:
    """C5."""
    # The base has GELU, so its lead over ReLU is ReLU's loss.
    relu, silu = evidence.against_base("relu"), evidence.between("silu", "relu")
    if relu.verdict == "better" or silu.verdict == "worse":
        return _finding("contradicted", [relu, silu])
    holds = relu.verdict == "worse" and silu.verdict == "better"
    return _finding("holds" if holds else "not told apart", [relu, silu])


def residual_is_needed(evidence: Evidence) -> Finding:
    """C6."""
    return _not_learned(evidence, evidence.present(WITHOUT_RESIDUAL) or [WITHOUT_RESIDUAL[0]], limit=NOT_CONVERGED)


def channel_mlp_is_needed(evidence: Evidence) -> Finding:
    """C7."""
    return _not_learned(evidence, ["no_channel_mlp"], limit=NOT_USEFUL)


def hybrids_beat_pooling(evidence: Evidence) -> Finding:
    """C8."""
    names = evidence.present(("pppa", "ppaa", "pppf", "ppff")) or ["pppa"]
    return _all_of([evidence.against_base(name) for name in names], wanted="better")


def modified_layer_norm_is_best(evidence: Evidence) -> Finding:
    """C9."""
    norms = [evidence.against_base(name) for name in ("layer_norm", "batch_norm")]
    none = evidence.level("no_norm", FAR_WORSE)
    ours = f"{_joined(norms)}; {none.text}"
    if any(one.verdict == "better" for one in norms) or none.low > 0:
        return Finding(verdict="contradicted", ours=ours)
    holds = all(one.verdict == "worse" for one in norms) and none.high <= 0
    return Finding(verdict="holds" if holds else "not told apart", ours=ours)


def window_hardly_matters(evidence: Evidence) -> Finding:
    """C10."""
    found = [evidence.against_base(name) for name in ("pool_5", "pool_7", "pool_9")]
    if any(one.verdict != "not told apart" and (one.low > HARDLY_POINTS or one.high < -HARDLY_POINTS) for one in found):
        return _finding("contradicted", found)
    inside = all(one.low >= -HARDLY_POINTS and one.high <= HARDLY_POINTS for one in found)
    return _finding("holds" if inside else "not told apart", found)


def cost_grows_as_said(evidence: Evidence) -> Finding:
    """C11."""
    pooling, attention, mlp = (evidence.series(name) for name in ("pooling", "attention", "spatial_mlp"))
    linear, *steep = times = [_exponent(one) for one in (pooling, attention, mlp)]
    grows = mlp.params_exponent
    params = max(point.params for point in pooling.points)
    said = [
        f"time of {one.name} ~ N^{time.value:.2f} ({time.low:.2f} to {time.high:.2f})"
        for one, time in zip((pooling, attention, mlp), times, strict=True)
    ]
    growth = f"N^{grows:.2f}" if grows is not None else "constant"
    ours = f"{'; '.join(said)}; pooling has {params} parameters; those of spatial_mlp ~ {growth}"
    if params or linear.low > LINEAR or any(time.high < LINEAR for time in steep) or not grows:
        return Finding(verdict="contradicted", ours=ours)
    holds = linear.high <= LINEAR and all(time.low >= SUPERLINEAR for time in steep)
    return Finding(verdict="holds" if holds else "not told apart", ours=ours)


def _exponent(series: CostSeries) -> Exponent:
    if series.time_exponent is None:
        raise UntestedError(f"fixed overhead dominates the time of {series.name} at every size that was measured")
    return series.time_exponent


def _all_of(found: Sequence[Contrast], *, wanted: str) -> Finding:
    if any(one.verdict not in (wanted, "not told apart") for one in found):
        return _finding("contradicted", found)
    return _finding("holds" if all(one.verdict == wanted for one in found) else "not told apart", found)


def _not_learned(evidence: Evidence, names: Sequence[str], *, limit: float) -> Finding:
    levels = [evidence.level(name, limit) for name in names]
    ours = "; ".join(level.text for level in levels)
    if any(level.low > 0 for level in levels):
        return Finding(verdict="contradicted", ours=ours)
    return Finding(verdict="holds" if all(level.high <= 0 for level in levels) else "not told apart", ours=ours)


def _finding(verdict: ClaimVerdict, found: Sequence[Contrast]) -> Finding:
    return Finding(verdict=verdict, ours=_joined(found))


def _joined(found: Sequence[Contrast]) -> str:
    return "; ".join(one.text for one in found)
