"""What a study may hold besides its runs: scaling, speed, and learning rates of its own."""

import json
import re
import shutil

import pytest

from metaformer.core.records import (
    CostSeries,
    Exponent,
    Recorder,
    Scaling,
    SizeCost,
    Speed,
    Spread,
    TriedRate,
    TunedVariant,
    Tuning,
    VariantSpeed,
    read_record,
)
from metaformer.report.charts.draw import DRAWN
from metaformer.report.pages.card_page import _params
from metaformer.report.report import report
from metaformer.report.study.load import load_study
from metaformer.report.study.panels import SCALING, scaling_panel
from metaformer.report.study.summary import summarize
from metaformer.report.study.table import columns, to_csv
from metaformer.report.study.tuned_rows import tuned_rows


def write(folder, result, *, seed=None):
    recorder = Recorder(type(result), name="x", config={}, command="metaformer", seed=seed)
    recorder.result = result
    record = recorder.finish()
    record.write(folder / record.kind)


def series(name, *, level="mixer", params=0, exponent=1.0, frozen=lambda n: 0):
    sizes = (64, 256, 1024)
    return CostSeries(
        name=name,
        level=level,
        points=tuple(
            SizeCost(
                num_tokens=n, params=params, frozen=frozen(n), macs=n, memory_mib=n / 10, times_ms=(n / 100, n / 90)
            )
            for n in sizes
        ),
        time_exponent=exponent and Exponent(value=exponent, low=exponent, high=exponent, fitted_tokens=sizes),
        macs_exponent=1.0,
        params_exponent=0.0,
        memory_exponent=1.0,
    )


def scaling(*listed, cpu_share=0.99):
    return Scaling(batch_size=1, num_threads=1, num_rounds=2, cpu_share=cpu_share, series=listed)


@pytest.fixture
def full_folder(study_folder):
    listed = [series("pooling"), series("attention", params=10, exponent=1.9), series("spatial_mlp", exponent=None)]
    listed.append(series("random", frozen=lambda n: n * n))
    write(study_folder, scaling(*listed, series("pooling", level="model")))
    latency = Spread(median=1.5, low=1.4, high=2.0)
    speeds = tuple(VariantSpeed(name=name, latency_ms=latency, memory_mib=3.25) for name in ("pooling", "conv"))
    write(study_folder, Speed(batch_size=1, num_threads=1, cpu_share=0.99, variants=speeds))

    def tried(*found):
        return tuple(TriedRate(lr=lr, epochs=7, validation_accuracy_percent=accuracy) for lr, accuracy in found)

    chosen = (
        TunedVariant(
            name="pooling", lr=0.002, recipe_lr=0.002, tried=tried((0.001, 70.0), (0.002, 71.0)), at_edge=True
        ),
        TunedVariant(name="conv", lr=0.004, recipe_lr=0.002, tried=tried((0.002, None), (0.004, 72.0)), at_edge=False),
    )
    write(study_folder, Tuning(variants=chosen), seed=1_000_003)
    shutil.copytree(study_folder, study_folder / "tuned", ignore=shutil.ignore_patterns("scaling", "speed", "tuning"))
    for path in (study_folder / "tuned").glob("conv/seed*/run.json"):
        run = json.loads(path.read_text())
        run["config"]["train"]["learning_rate"] = 0.004
        run["result"]["test_accuracy_percent"] += 4
        path.write_text(json.dumps(run))
    return study_folder


def test_latency_and_memory_are_columns_where_they_were_measured(full_folder):
    rows = {row.name: row for row in summarize(load_study(full_folder))}
    assert rows["conv"].latency_ms.median == 1.5
    assert rows["conv"].memory_mib == 3.25
    assert rows["identity"].latency_ms is None
    keys = [column.key for column in columns(list(rows.values()))]
    assert keys[-3:] == ["latency", "memory", "paper"]
    assert "latency_ms,memory_mib" in to_csv(list(rows.values())).splitlines()[0]


def test_without_a_speed_record_there_are_no_such_columns(study_folder):
    assert "latency" not in [column.key for column in columns(summarize(load_study(study_folder)))]


def drawn(record):
    found = {f"scaling-{name}": scaling_panel(record, name) for name in SCALING}
    return {name: DRAWN[type(panel)](panel) for name, panel in found.items() if panel}


def test_scaling_charts_name_the_exponent_or_that_there_is_none(full_folder):
    charts = drawn(read_record(full_folder / "scaling", Scaling).measured)
    assert list(charts) == [
        "scaling-mixer-time",
        "scaling-model-time",
        "scaling-mixer-memory",
        "scaling-model-memory",
        "scaling-mixer-parameters",
    ]
    assert [trace.name for trace in charts["scaling-mixer-time"].data] == [
        "pooling, N^1.0",
        "attention, N^1.9",
        "spatial mlp, overhead",
        "random, N^1.0",
    ]
    # What has no parameters has no place on a logarithmic axis.
    # The numbers of a random matrix are all frozen, and grow.
    names = [trace.name for trace in charts["scaling-mixer-parameters"].data]
    assert names == ["attention, N^0.0", "random, N^2.0"]
    assert list(charts["scaling-mixer-time"].data[0].y) == pytest.approx(
        [n * (1 / 100 + 1 / 90) / 2 for n in (64, 256, 1024)]
    )


def test_no_record_no_chart():
    assert drawn(None) == {}


def test_own_rates_stand_beside_the_common_recipe(full_folder):
    study = load_study(full_folder)
    rows = {row.title: row for row in tuned_rows(study, summarize(study))}
    conv, pooling = rows["Depthwise convolution"], rows["Pooling 3x3"]
    assert (conv.rate, conv.at_edge, conv.rates) == ("0.004", False, "0.002: \N{EN DASH}, 0.004: 72.0%")
    assert conv.gain.startswith("+4.0")
    assert conv.gain.endswith("better")
    assert (pooling.gain, pooling.difference, pooling.at_edge) == ("same rate", "base", True)
    assert conv.own != conv.common


def test_a_row_at_another_rate_without_runs_is_not_called_the_same_rate(full_folder):
    shutil.rmtree(full_folder / "tuned" / "conv")
    study = load_study(full_folder)
    rows = {row.title: row for row in tuned_rows(study, summarize(study))}
    assert rows["Depthwise convolution"].gain == "\N{EN DASH}"


def test_a_study_that_was_not_tuned_has_no_such_table(study_folder):
    study = load_study(study_folder)
    assert tuned_rows(study, summarize(study)) == []


def test_the_page_shows_all_of_it(full_folder):
    text = report(full_folder).page.read_text(encoding="utf-8")
    for part in (
        "chart-latency",
        "chart-memory",
        "chart-params",
        "scaling-mixer-time",
        "Each at its own learning rate",
    ):
        assert part in text
    assert "1000003" in text


def test_every_record_behind_the_page_comes_with_it(full_folder):
    text = report(full_folder).page.read_text(encoding="utf-8")
    found = re.search(r'id="data-records">(.*?)</script>', text)
    records = {one["folder"]: one["record"] for one in json.loads(found[1])}
    assert {"", "scaling", "speed", "tuning", "tuned", "conv/seed1", "tuned/conv/seed1"} <= set(records)
    assert records["speed"]["result"]["batch_size"] == 1
    assert len(records) == 1 + 24 + 3 + 1 + 24


def test_the_numbers_of_a_mixer_in_a_quote_include_frozen_ones():
    assert (
        _params(series("random", frozen=lambda n: n * n))
        == "0 parameters and 4.10 k to 1.05 M frozen numbers, growing with N"
    )
    assert _params(series("attention", params=10)) == "10 parameters"


def test_a_busy_machine_is_pointed_out(full_folder):
    assert "The machine was busy" not in report(full_folder).page.read_text(encoding="utf-8")
    path = full_folder / "scaling" / "run.json"
    values = json.loads(path.read_text())
    values["result"]["cpu_share"] = 0.5
    path.write_text(json.dumps(values))
    assert "scaling (50%)" in report(full_folder).page.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["scaling", "speed", "tuning", "tuned"])
@pytest.mark.parametrize("content", ["{", '{"kind": "train"}'], ids=["broken", "foreign"])
def test_a_broken_extra_is_reported_and_the_page_still_opens(full_folder, kind, content):
    (full_folder / kind / "run.json").write_text(content)
    study = load_study(full_folder)
    assert list(study.unreadable) == [f"{kind}/run.json"]
    assert f"{kind}/run.json" in report(full_folder).page.read_text(encoding="utf-8")


def test_a_record_of_another_kind_is_not_taken(full_folder):
    shutil.copy(full_folder / "speed" / "run.json", full_folder / "scaling" / "run.json")
    assert "of kind 'speed', not 'scaling'" in load_study(full_folder).unreadable["scaling/run.json"]
