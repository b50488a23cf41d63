from dataclasses import replace

from metaformer.core.records import read_record
from metaformer.data.sources import open_data
from metaformer.study.folder import StudyFolder, study_record


def test_a_study_made_in_parts_names_every_command_and_when_it_began(study, tmp_path):
    data = open_data(study.data, study.preparation)
    began = "2026-01-01T00:00:00+00:00"
    replace(study_record(study, data, "metaformer study"), started=began, wall_time_s=5.0).write(tmp_path)
    for command in ("metaformer study --parts scaling", "metaformer study"):
        folder = StudyFolder(tmp_path, study, data, command)
        folder.open()
        folder.close(1.0)
    record = read_record(tmp_path)
    assert record.command.splitlines() == ["metaformer study", "metaformer study --parts scaling"]
    assert (record.started, record.wall_time_s) == (began, 7.0)
