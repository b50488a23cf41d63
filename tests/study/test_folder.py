from dataclasses import replace

from metaformer.core.run_record import read_run_record
from metaformer.data.sources import open_data
from metaformer.study.folder import StudyFolder, study_record


def test_a_study_made_in_parts_names_every_command_and_when_it_began(study, tmp_path):
    data = open_data(study.data, study.preparation)
    began = "2026-01-01T00:00:00+00:00"
    replace(study_record(study, data, "metaformer study", wall_time_s=5.0), started=began).write(tmp_path)
    for command in ("metaformer study --parts scaling", "metaformer study"):
        folder = StudyFolder(tmp_path, study, data, command)
        folder.open()
        folder.close(1.0)
    record = read_run_record(tmp_path)
    assert record.command.splitlines() == ["metaformer study", "metaformer study --parts scaling"]
    assert (record.started, record.wall_time_s) == (began, 7.0)


def test_a_row_whose_figure_is_of_another_size_says_so(study, tmp_path):
    rows = (study.variants[0], replace(study.variants[1], paper_same_size=False))
    data = open_data(study.data, study.preparation)
    record = study_record(replace(study, variants=rows), data, "", wall_time_s=0.0)
    assert [row["paper_same_size"] for row in record.labels["variants"]] == [True, False]
