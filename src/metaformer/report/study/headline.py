"""The answer in one sentence. It says no more than the corrected comparisons do."""

from collections.abc import Sequence

from metaformer.report.number_text import listed, plain, signed
from metaformer.report.study.row import Row

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def headline(rows: Sequence[Row], *, data: str = "this data") -> str:
    """What the study found, from its rows.

    The main rows are those that change the token mixer (or, where none does, every row that is no control); then
    come the largest gain and the largest loss among the rest: architectures, norms, controls.

    Args:
        rows: As `summarize` returns them.
        data: The title of the data.
    """
    base, data = next(row for row in rows if row.is_base), inside_sentence(data)
    others = [row for row in rows if not row.is_base]
    if base.accuracy is None:
        return f"On {data} there is no answer yet: no run of the base, {base.title}, has ended well."
    mixers = [row for row in others if row.changes_token_mixer and not row.control]
    main = mixers or [row for row in others if not row.control]
    judged = [row for row in main if row.verdict != "no verdict"]
    if not judged:
        return _no_verdict(main, base, data)
    noun = "other token mixer" if mixers else "variant"
    parts = [_counts(judged, base, data, noun), _silent(main, judged), _beyond(others, main, base)]
    return "; ".join(part for part in parts if part) + "."


def _no_verdict(main: Sequence[Row], base: Row, data: str) -> str:
    if not main:
        return f"On {data}, {base.title} reaches {plain(base.accuracy or 0.0)}%; there is nothing to compare it to."
    if any(row.difference is not None for row in main):
        reason = next((row.why_no_verdict for row in main if row.why_no_verdict), "there are too few seeds")
    else:
        reason = "no other variant has a run that ended well on the same seeds"
    return f"On {data} nothing can be told apart from {base.title} yet: {reason}."


def _counts(judged: Sequence[Row], base: Row, data: str, noun: str) -> str:
    better = sorted((row for row in judged if row.verdict == "better"), key=lambda row: -(row.difference or 0.0))
    worse = sorted((row for row in judged if row.verdict == "worse"), key=lambda row: row.difference or 0.0)
    unclear = [row for row in judged if row.verdict == "not told apart"]
    plural = noun if len(judged) == 1 else f"{noun}s"
    seeds = f"{base.num_seeds} seed{'' if base.num_seeds == 1 else 's'}"
    if len(unclear) == len(judged):
        what = f"the {noun} is not" if len(judged) == 1 else f"none of the {_number(len(judged))} {plural} is"
        return f"On {data}, {what} told apart from {base.title} with {seeds} ({_range(unclear)} points)"
    parts = []
    for group, how in ((better, "better"), (worse, "worse")):
        if group:
            does = "does" if len(group) == 1 else "do"
            parts.append(f"{_number(len(group))} {does} {how} ({_named(group)})")
    if unclear:
        parts.append(f"{_number(len(unclear))} {'is' if len(unclear) == 1 else 'are'} not told apart from it")
    return f"On {data}, of {_number(len(judged))} {plural} compared to {base.title} with {seeds}, {listed(parts)}"


def _silent(main: Sequence[Row], judged: Sequence[Row]) -> str:
    silent = len(main) - len(judged)
    return f"{_number(silent)} {'has' if silent == 1 else 'have'} no verdict yet" if silent else ""


def _beyond(others: Sequence[Row], main: Sequence[Row], base: Row) -> str:
    """The largest gain and the largest loss of what changes more than the mixer, or something else."""
    rest = [row for row in others if row not in main]
    parts = []
    for verdict, what, pick in (("better", "gain", max), ("worse", "loss", min)):
        group = [row for row in rest if row.verdict == verdict]
        if group:
            most = pick(group, key=lambda row: row.difference or 0.0)
            over = f" over {base.title}" if verdict == "better" else ""
            parts.append(f"the largest {what}{over} is {plain(abs(most.difference or 0.0))} points, with {most.title}")
    return f"beyond the mixer, {listed(parts)}" if parts else ""


def _named(rows: Sequence[Row]) -> str:
    named = [f"{row.title} {signed(row.difference or 0.0)}" for row in rows[:3]]
    more = [f"{_number(len(rows) - 3)} more"] if len(rows) > 3 else []
    return listed(named + more) + ("" if more else " points")


def _range(rows: Sequence[Row]) -> str:
    low, high = (pick(row.difference or 0.0 for row in rows) for pick in (min, max))
    return signed(low) if len(rows) == 1 else f"{signed(low)} to {signed(high)}"


def _number(value: int) -> str:
    return NUMBERS[value] if value < len(NUMBERS) else str(value)


def inside_sentence(title: str) -> str:
    """A title of ordinary words, as in "Cluttered digits", loses its capital; a name keeps it."""
    words = title.split()
    return title[0].lower() + title[1:] if len(words) > 1 and words[0].istitle() and title[1:].islower() else title
