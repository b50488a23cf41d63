import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from metaformer.cli.study_progress import Progress, clock, watch
from metaformer.core.records import Failure
from metaformer.recipes.study_quick import study_quick
from metaformer.study.event import StudyEvent
from metaformer.study.folder import plan
from metaformer.train.config import TrainConfig

STUDY = replace(study_quick(), train=TrainConfig(epochs=10), seeds=(0, 1))
POOLING, IDENTITY = plan(STUDY)[:2]


def event(kind, run=POOLING, **facts):
    return StudyEvent(kind=kind, run=run, **facts)


def epoch(number, run=POOLING, accuracy=50.0, speed=1234.0):
    return event("epoch", run, epoch=number, validation_accuracy=accuracy, images_per_second=speed)


def taken(num_runs, seconds, *events):
    """Progress after events that took so long together."""
    progress = Progress(num_runs, started=time.monotonic() - seconds)
    for one in events:
        progress.take(one)
    return progress


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0:00"), (5.9, "0:05"), (65.0, "1:05"), (3723.0, "62:03")])
def test_a_clock(seconds, text):
    assert clock(seconds) == text


def test_before_the_first_epoch_nobody_knows():
    assert taken(4, 100).eta() == "ETA -"
    assert taken(4, 100, event("started")).eta() == "ETA -"


def test_the_time_to_go_comes_from_the_time_an_epoch_took():
    # 5 of 40 epochs in 50 seconds: 35 more at 10 seconds each.
    progress = taken(4, 50, event("started"), *(epoch(number) for number in range(1, 6)))
    assert progress.eta() == "ETA 5:50"
    assert progress.num_finished == 0


def test_runs_side_by_side_add_up():
    events = [event("started"), event("started", IDENTITY), epoch(1), epoch(1, IDENTITY), epoch(2), epoch(2, IDENTITY)]
    assert taken(4, 40, *events).eta() == "ETA 6:00"


def test_runs_that_were_finished_before_tell_nothing_about_the_speed():
    events = [event("skipped", epoch=10), event("started", IDENTITY), epoch(1, IDENTITY)]
    progress = taken(2, 10, *events)
    assert progress.num_finished == 1
    assert progress.eta() == "ETA 1:30"


def test_when_all_were_finished_before_there_is_no_speed():
    assert taken(1, 10, event("skipped", epoch=10)).eta() == "ETA -"


def test_a_run_that_goes_on_counts_from_where_it_was():
    # Its first word is epoch 8: one epoch of this session at most.
    progress = taken(1, 10, event("started"), epoch(8))
    assert progress.eta() == "ETA 0:20"


def test_a_run_that_fails_at_once_tells_nothing_about_the_speed():
    progress = taken(2, 20, event("started"), event("failed", failure=failure("x")), event("started", IDENTITY))
    assert progress.num_finished == 1
    assert progress.eta() == "ETA -"
    progress.take(epoch(1, IDENTITY))
    assert progress.eta() == "ETA 3:00"


def test_finished_and_failed_runs_are_done():
    events = [event("started"), epoch(10), event("finished"), event("started", IDENTITY)]
    progress = taken(2, 10, *events[:2])
    assert progress.num_finished == 0
    for one in events[2:]:
        progress.take(one)
    assert progress.num_finished == 1
    progress.take(event("failed", IDENTITY, failure=failure("why")))
    assert progress.num_finished == 2
    assert progress.eta() == "ETA 0:00"


def stream(*events):
    yield from events


def failure(message, kind="error"):
    return Failure(kind=kind, message=message)


def plain_lines(capsys, *events, num_runs=2):
    failed = watch(Console(file=io.StringIO()), stream(*events), num_runs=num_runs)
    return failed, capsys.readouterr().out.splitlines()


def test_where_nobody_looks_there_is_a_line_for_each_run_that_ends(capsys):
    failed, lines = plain_lines(
        capsys,
        event("skipped", epoch=10),
        event("started", IDENTITY),
        epoch(9, IDENTITY),
        epoch(10, IDENTITY, accuracy=87.65, speed=4321.0),
        event("finished", IDENTITY),
    )
    assert failed == 0
    assert lines[0] == "[1/2] pooling, seed 0: finished before"
    assert lines[1].startswith("[2/2] identity, seed 0: 87.7% validation, 4,321 images/s, ETA 0:00")
    assert len(lines) == 2


def test_a_failed_run_is_counted_and_says_why(capsys):
    failed, lines = plain_lines(capsys, event("started"), event("failed", failure=failure("[odd] size")))
    assert failed == 1
    assert lines == ["[1/2] pooling, seed 0: failed: [odd] size"]


def test_a_control_that_diverged_has_answered_now_and_before(capsys):
    diverged = failure("the loss became nan in epoch 1, step 3: x", kind="diverged")
    events = [
        event("started"),
        event("failed", failure=diverged),
        event("skipped", IDENTITY, epoch=10, failure=diverged),
        event("started", replace(POOLING, seed=1)),
        event("failed", replace(POOLING, seed=1), failure=failure("no")),
    ]
    assert watch(Console(file=io.StringIO()), stream(*events), num_runs=3, may_diverge=("pooling",)) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"[2/3] identity, seed 0: failed before: {diverged.message}"
    assert watch(Console(file=io.StringIO()), stream(*events), num_runs=3, may_diverge=("pooling", "identity")) == 1
    assert watch(Console(file=io.StringIO()), stream(*events), num_runs=3) == 3


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=30, color_system=None)


def test_on_a_terminal_there_is_a_live_table(terminal, capsys):
    events = [
        event("skipped", IDENTITY, epoch=10),
        event("started"),
        epoch(3, accuracy=61.3),
        event("failed", failure=failure("[bold]loss[/bold] became nan")),
    ]
    assert watch(terminal, stream(*events), num_runs=2) == 1
    text = terminal.file.getvalue()
    for part in ("variant", "seed", "epoch", "validation", "images/s", "pooling", "3/10", "61.3%", "1,234"):
        assert part in text
    assert "[bold]loss[/bold] became nan" in text
    assert "2/2 runs done" in text
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("height", [5, 10, 200])
def test_the_table_fits_the_terminal(height):
    events = [event("started", run) for run in plan(STUDY)]
    group = taken(len(events), 1, *events).table(height)
    console = Console(file=io.StringIO(), width=100)
    console.print(group)
    num_rows = console.file.getvalue().count("0/10")
    assert num_rows == min(len(events), max(3, height - 6))


@pytest.mark.parametrize("force_terminal", [True, False])
def test_an_interruption_stops_the_runs(force_terminal):
    closed = []

    def events():
        try:
            yield event("started")
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        watch(Console(file=io.StringIO(), force_terminal=force_terminal), events(), num_runs=1)
    assert closed


def test_an_error_while_showing_stops_the_runs_too(terminal, monkeypatch):
    closed = []

    def events():
        try:
            yield event("started")
            yield epoch(1)
        finally:
            closed.append(True)

    def fail(progress, height):
        raise RuntimeError("no room")

    monkeypatch.setattr(Progress, "table", fail)
    with pytest.raises(RuntimeError, match="no room"):
        watch(terminal, events(), num_runs=1)
    assert closed
