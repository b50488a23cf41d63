"""Every cell of the fast path's targets, met or not, from the records: python benchmarks/targets.py [FOLDER].

FOLDER holds what `inference.py`, `train.py s12` and `scaling.py` left there. Prints a Markdown table.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metaformer.core.errors import DataError
from metaformer.core.records import Bench, BenchContest, read_record

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


def bench(folder: Path) -> Bench | None:
    """What was measured there; None if nothing was."""
    try:
        return read_record(folder, Bench).measured
    except DataError:
        return None


def contest(one: Bench | None, batch: int, dtype: str, phase: str = "inference") -> BenchContest | None:
    """Of images of 224 pixels."""
    return one.contest(phase, batch_size=batch, side_px=224, dtype=dtype) if one else None


def best(one: BenchContest | None, peers: tuple[str, ...]) -> tuple[float, str] | None:
    """How many times our time the fastest of these peers takes, and who it is."""
    found = [one.peer(name) for name in peers] if one else []
    return min(((peer.ratio_to_ours, peer.name) for peer in found if peer and peer.ratio_to_ours), default=None)


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
    s12, s12_bf16 = bench(folder / "poolformer_s12"), bench(folder / "poolformer_s12_bf16")
    for dtype, bound, peers in (("float32", 1.03, OTHERS), ("bfloat16", 1.05, (COMPILED, "OpenVINO"))):
        for batch in (8, 1):
            # Where bfloat16 is emulated it takes minutes a peer, and is measured alone.
            found = best(contest(s12, batch, dtype), peers) or best(contest(s12_bf16, batch, dtype), peers)
            yield at_least(f"poolformer_s12, {dtype}, batch of {batch}: best peer", bound, found)
    for batch in (8, 1):
        found = best(contest(s12, batch, "float32"), (EAGER,))
        yield at_least(f"poolformer_s12, float32, batch of {batch}: timm eager", 1.75, found)
    eight = contest(s12, 8, "float32")
    ours = eight.peer("ours, optimized") if eight else None
    share = ours.share_of_peak_percent if ours else None
    yield Target("poolformer_s12: share of the peak, batch of 8", ">= 72%", share, (share or 0) >= 72)
    for name in MODELS:
        for batch in (8, 1):
            found = best(contest(bench(folder / name), batch, "float32"), (*TIMM, *OTHERS))
            yield at_least(f"{name}, float32, batch of {batch}: best peer", 1.05, found)
    yield from training_targets(bench(folder / "train" / "s12"))
    scaling = bench(folder / "scaling")
    exponent = scaling.growth.exponent if scaling and scaling.growth else None
    yield at_most("cost exponent in tokens, 128 to 1024 px", 1.05, exponent)


def training_targets(one: Bench | None) -> Iterator[Target]:
    """Time and memory of a training step."""
    timms = ("timm, eager", "timm, channels last", "timm, channels last, compiled")
    for dtype in ("bfloat16", "float32"):
        step = contest(one, 16, dtype, "training")
        yield at_least(f"training step, batch of 16, {dtype}: best of timm", 1.1, best(step, timms))
        peers = {peer.name: peer.peak_memory_mib for peer in step.peers} if step else {}
        theirs, mine = [mib for name in timms if (mib := peers.get(name))], peers.get("ours, for_training")
        ratio = mine / min(theirs) if mine and theirs else None
        yield at_most(f"peak memory of it, {dtype}: over timm's least", 0.8, ratio, "x")


if __name__ == "__main__":
    print("| what | asked | measured | met | |\n| --- | --- | ---: | --- | --- |")
    for target in targets(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench")):
        print(target)
