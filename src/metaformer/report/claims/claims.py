"""The paper's claims, each with its figures and the rule that judges it by a study."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from metaformer.report.claims import rules as claim_rules
from metaformer.report.claims.evidence import Evidence, UntestedError
from metaformer.report.claims.rules import ClaimVerdict, Finding
from metaformer.report.study.load import LoadedStudy
from metaformer.report.study.row import Row

UNTESTED: ClaimVerdict = "not tested at this scale"
# What the paper compares with: a difference to any other base is not what its claims are about.
BASE = "pooling"
COST = "C11"  # is about mixers alone, so that it needs no base


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of the paper. "Told apart" always means: after Holm's correction, at 5%."""

    id: str
    text: str
    paper: str  # the paper's figures: top-1 of S12 on ImageNet-1K
    rule: str
    judge: Callable[[Evidence], Finding]


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """A claim, our figures and the verdict at this scale."""

    claim: Claim
    verdict: ClaimVerdict
    ours: str  # figures, or why there are none


# Said in the rules that rest on `evidence.PAIRS`.
PAIR_FAMILY = (
    "Random minus identity and SiLU minus ReLU are no rows of the main table: Holm corrects these two among themselves."
)

# Source: arXiv:2111.11418, Tables 2 and 5, Sec. 1 and 4.3.
CLAIMS = (
    Claim(
        id="C1",
        text="The architecture matters more than the token mixer: simple pooling is competitive with attention, MLP "
        "and CNN models of its size.",
        paper="pooling 77.2; ResNet-18 70.6, ResMLP-S12 76.6; DeiT-S 79.8, where S24 has 80.3",
        rule="Against a ResNet, a ResMLP and a ViT with the MACs of the base, to a tenth; not tested at other costs. "
        "Holds if none of their intervals reaches more than 1 point above the base; contradicted if one of them is "
        "told apart as better.",
        judge=claim_rules.architecture_matters_more,
    ),
    Claim(
        id="C2",
        text="Even identity, no token mixing in the block, performs well.",
        paper="identity 74.3, pooling 77.2",
        rule="What identity learns over chance minus nine tenths of what the base learns, seed by seed. Holds if its "
        "interval lies above 0; contradicted if it lies below.",
        judge=claim_rules.identity_performs_well,
    ),
    Claim(
        id="C3",
        text="A frozen random mixing matrix works, and better than identity.",
        paper="random 75.8, identity 74.3",
        rule="Holds if random minus identity is told apart as better and random learns at least half of what the base "
        "learns over chance, by the interval of the difference, seed by seed; contradicted if it is told apart as "
        f"worse, or learns less than half. {PAIR_FAMILY}",
        judge=claim_rules.random_beats_identity,
    ),
    Claim(
        id="C4",
        text="Depthwise convolution beats pooling.",
        paper="depthwise 78.1, pooling 77.2",
        rule="Holds if it is told apart as better than the base; contradicted if as worse.",
        judge=claim_rules.depthwise_beats_pooling,
    ),
    Claim(
        id="C5",
        text="GELU and SiLU beat ReLU.",
        paper="77.2 and 77.2, ReLU 76.4",
        rule="Holds if ReLU is told apart as worse than the base, which has GELU, and SiLU as better than ReLU; "
        f"contradicted if either is told apart the other way. {PAIR_FAMILY}",
        judge=claim_rules.gelu_and_silu_beat_relu,
    ),
    Claim(
        id="C6",
        text="Without residual connections the model does not converge.",
        paper="0.1",
        rule="What a row learns over chance minus a tenth of what the base learns, seed by seed. Holds if the "
        "intervals of all rows without residual connections stay below 0; contradicted if one of them lies above. A "
        "run that diverged counts as chance.",
        judge=claim_rules.residual_is_needed,
    ),
    Claim(
        id="C7",
        text="Without channel MLPs it does not converge to anything useful.",
        paper="5.7",
        rule="As C6, with a quarter for a tenth.",
        judge=claim_rules.channel_mlp_is_needed,
    ),
    Claim(
        id="C8",
        text="Pooling below with attention or spatial MLPs above beats pooling everywhere.",
        paper="attention in stage 4: 78.3, in 3-4: 81.0; spatial MLP 77.5, 77.9; pooling 77.2",
        rule="Holds if every hybrid is told apart as better than the base; contradicted if one is as worse.",
        judge=claim_rules.hybrids_beat_pooling,
    ),
    Claim(
        id="C9",
        text="The modified layer norm beats layer norm and batch norm, and no norm is far worse.",
        paper="MLN 77.2, LN 76.5, BN 76.4, none 46.1",
        rule="Holds if LN and BN are told apart as worse than the base, which has MLN, and the interval of no norm "
        "stays below three quarters of what the base learns over chance, seed by seed; contradicted if LN or BN is "
        "told apart as better, or no norm's interval lies above that.",
        judge=claim_rules.modified_layer_norm_is_best,
    ),
    Claim(
        id="C10",
        text="The pooling window hardly matters.",
        paper="3: 77.2, 5: 77.2, 7: 77.1, 9: 76.8",
        rule="Holds if the intervals of windows 5, 7 and 9 stay within 1 point of the base; contradicted if one is "
        "told apart and its interval lies beyond.",
        judge=claim_rules.window_hardly_matters,
    ),
    Claim(
        id="C11",
        text="Pooling costs linearly in the number of tokens N and has no parameters; attention and spatial MLP cost "
        "quadratically; a spatial MLP's parameters grow with the tokens.",
        paper="an argument, not a measurement",
        rule="By the scaling record: exponent of time over N of the mixer alone, with the interval of its median over "
        "rounds. Holds if pooling's interval stays at or below 1.25 and the others' at or above 1.5, pooling has no "
        "parameters and those of the spatial MLP grow; contradicted if pooling's lies above 1.25, another's below, or "
        "a count differs.",
        judge=claim_rules.cost_grows_as_said,
    ),
)


def judge_claims(study: LoadedStudy, rows: Sequence[Row]) -> list[JudgedClaim]:
    """Every claim with a verdict; where the study lacks the data, there is none, and it says why."""
    evidence = Evidence(
        rows,
        chance=study.data.chance_accuracy_percent,
        scaling=study.scaling.measured if study.scaling else None,
    )
    base = next(row for row in rows if row.is_base)
    if base.name == BASE:
        return [_judge(claim, evidence) for claim in CLAIMS]
    other = f"the base is {base.title}, not {BASE}"
    return [
        _judge(claim, evidence) if claim.id == COST else JudgedClaim(claim=claim, verdict=UNTESTED, ours=other)
        for claim in CLAIMS
    ]


def is_tested(judged: Sequence[JudgedClaim]) -> bool:
    """Whether any claim has a verdict."""
    return any(one.verdict != UNTESTED for one in judged)


def _judge(claim: Claim, evidence: Evidence) -> JudgedClaim:
    try:
        finding = claim.judge(evidence)
    except UntestedError as error:
        return JudgedClaim(claim=claim, verdict=UNTESTED, ours=str(error))
    return JudgedClaim(claim=claim, verdict=finding.verdict, ours=finding.ours)


CLAIM_FIELDS: dict[str, Callable[[JudgedClaim], Any]] = {
    "claim": lambda one: one.claim.id,
    "text": lambda one: one.claim.text,
    "paper": lambda one: one.claim.paper,
    "ours": lambda one: one.ours,
    "verdict": lambda one: one.verdict,
    "rule": lambda one: one.claim.rule,
}
