"""One row of the result: a variant, what was measured, and what may be said about it."""

from dataclasses import dataclass, field

from metaformer.core.measurement import Numbers
from metaformer.core.records import Failure, Spread
from metaformer.report.stats.statistics import Verdict

# Settings that a row changes only if it is another model altogether.
OTHER_ARCHITECTURE = ("model.options", "model.patch_embeddings")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A variant with its numbers over all seeds. Accuracies are in %, differences in percent points."""

    name: str
    title: str
    change: str
    paper_top1: float | None = None
    paper_note: str = ""
    paper_difference: float | None = None  # the paper's top-1 of this row minus that of the base, if of one size
    is_base: bool = False
    control: bool = False
    comparable: bool = True  # its spread over seeds is of the same kind as the others'
    other_conditions: str = ""  # that it was trained under, unlike the base: then nothing is said against that
    changed_settings: tuple[str, ...] = ()  # where its config differs from the base's, as "model.token_mixers"

    values: dict[int, float] = field(default_factory=dict)  # seed -> accuracy, of the runs that ended well
    accuracy: float | None = None
    half_width: float | None = None  # of the 95% interval; None: see `note`
    note: str = ""  # why there is no interval, or nothing

    difference: float | None = None  # to the base, over the seeds that both have
    difference_half_width: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: Verdict = "no verdict"
    why_no_verdict: str = ""  # where there is a difference but no verdict on it
    seeds_needed: str = ""

    params: int | None = None
    frozen: int | None = None
    macs: int | None = None
    images_per_second: Spread | None = None  # in training
    latency_ms: Spread | None = None  # of one batch in inference, over rounds
    memory_mib: float | None = None  # at most, in inference
    per_class_difference: tuple[float, ...] | None = None  # to the base, mean over common seeds
    curves: dict[str, dict[int, Numbers]] = field(default_factory=dict)  # column -> seed -> one value an epoch
    failures: dict[int, Failure] = field(default_factory=dict)  # seed -> why that run failed
    missing: tuple[int, ...] = ()  # seeds without a record

    @property
    def num_seeds(self) -> int:
        return len(self.values)

    @property
    def changes_token_mixer(self) -> bool:
        """Whether the token mixer is what it changes: another architecture, or another family's block, is not that."""
        if any(path.startswith(OTHER_ARCHITECTURE) for path in self.changed_settings):
            return False
        return any("token_mixer" in path for path in self.changed_settings)
