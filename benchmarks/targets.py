"""Every cell of the fast path's targets, met or not, from the records: python benchmarks/targets.py [FOLDER].

FOLDER holds what `inference.py`, `train.py s12` and `scaling.py` left there. Prints a Markdown table.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metaformer.core.errors import DataError
from metaformer.core.run_record import RunRecord, read_run_record

COMPILED, EAGER = "timm, compiled + freezing", "timm, eager"
TIMM = (EAGER, "timm, channels last", COMPILED)
OTHERS = (COMPILED, "ONNX Runtime", "OpenVINO")
MODELS = ("poolformerv2_s12", "convformer_s18", "caformer_s18")


@dataclass(frozen=True)
class Target:
    """One line of the table."""

    what: str
    asked: str
    value: float | None  # None: not measured
    is_met: bool
    detail: str = ""

    def __str__(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.2f}"
        verdict = "-" if self.value is None else "yes" if self.is_met else "no"
        return f"| {self.what} | {self.asked} | {value} | {verdict} | {self.detail} |"


def record(folder: Path) -> RunRecord | None:
    """What was measured there; None if nothing was."""
    try:
        return read_run_record(folder)
    except DataError:
        return None


def best(run: RunRecord | None, place: str, peers: tuple[str, ...]) -> tuple[float, str] | None:
    """How many times our time the fastest of these peers takes, and who it is."""
    ratios = {peer: run.metrics.get(f"{place}/{peer}/ratio_to_ours") for peer in peers} if run else {}
    measured = {peer: metric.value for peer, metric in ratios.items() if metric is not None}
    if not measured:
        return None
    peer = min(measured, key=measured.__getitem__)
    return measured[peer], peer


def at_least(what: str, bound: float, found: tuple[float, str] | None) -> Target:
    """A target that a ratio must reach."""
    if found is None:
        return Target(what, f">= {bound}x", None, False)
    return Target(what, f">= {bound}x", found[0], found[0] >= bound, f"fastest: {found[1]}")


def at_most(what: str, bound: float, value: float | None, unit: str = "") -> Target:
    """A target that a number must stay below."""
    return Target(what, f"<= {bound}{unit}", value, value is not None and value <= bound)


def targets(folder: Path) -> Iterator[Target]:
    """All of them, from the records in a folder."""
    s12 = record(folder / "poolformer_s12")
    for dtype, bound, peers in (("float32", 1.03, OTHERS), ("bfloat16", 1.05, (COMPILED, "OpenVINO"))):
        for batch in (8, 1):
            place = f"inference/batch {batch}/224 px/{dtype}"
            # Where bfloat16 is emulated it takes minutes a peer, and is measured alone.
            found_best = best(s12, place, peers) or best(record(folder / "poolformer_s12_bf16"), place, peers)
            yield at_least(f"poolformer_s12, {dtype}, batch of {batch}: best peer", bound, found_best)
    for batch in (8, 1):
        place = f"inference/batch {batch}/224 px/float32"
        yield at_least(f"poolformer_s12, float32, batch of {batch}: timm eager", 1.75, best(s12, place, (EAGER,)))
    share = s12.metrics.get("inference/batch 8/224 px/float32/ours, optimized/share_of_peak") if s12 else None
    found = None if share is None else share.value
    yield Target("poolformer_s12: share of the peak, batch of 8", ">= 72%", found, (found or 0) >= 72)
    for name in MODELS:
        for batch in (8, 1):
            place = f"inference/batch {batch}/224 px/float32"
            found_best = best(record(folder / name), place, (*TIMM, *OTHERS))
            yield at_least(f"{name}, float32, batch of {batch}: best peer", 1.05, found_best)
    yield from training_targets(record(folder / "train" / "s12"))
    growth = record(folder / "scaling")
    exponent = growth.metrics.get("cost_exponent") if growth else None
    yield at_most("cost exponent in tokens, 128 to 1024 px", 1.05, exponent.value if exponent else None)


def training_targets(run: RunRecord | None) -> Iterator[Target]:
    """Time and memory of a training step."""
    timms = ("timm, eager", "timm, channels last", "timm, channels last, compiled")
    for dtype in ("bfloat16", "float32"):
        place = f"training/batch 16/224 px/{dtype}"
        yield at_least(f"training step, batch of 16, {dtype}: best of timm", 1.1, best(run, place, timms))
        peaks = {who: run.metrics.get(f"{place}/{who}/peak_memory") for who in timms} if run else {}
        theirs = [metric.value for metric in peaks.values() if metric is not None]
        mine = run.metrics.get(f"{place}/ours, for_training/peak_memory") if run else None
        ratio = mine.value / min(theirs) if mine and theirs else None
        yield at_most(f"peak memory of it, {dtype}: over timm's least", 0.8, ratio, "x")


if __name__ == "__main__":
    print("| what | asked | measured | met | |\n| --- | --- | ---: | --- | --- |")
    for target in targets(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench")):
        print(target)
