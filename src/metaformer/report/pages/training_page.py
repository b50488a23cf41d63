"""One page for trainings: accuracy against minutes, loss, and what each run was."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from metaformer.core.atomic_write import write_text
from metaformer.core.configs import to_dict
from metaformer.report.pages.study_page import PAGE_FILE, asset, environment
from metaformer.report.pages.trainings import CHARTS, COLUMNS, load_trainings


def write_training_page(folders: Sequence[Path]) -> Path:
    """Writes the page of one or several trainings into the folder of the first.

    Raises:
        DataError: A folder holds no training, or is named twice.
    """
    trainings = load_trainings(folders)
    text = (
        environment()
        .get_template("training.html.j2")
        .render(
            css=asset("page.css"),
            title=", ".join(trainings.names),
            # Drawn by us from numbers, with every name escaped.
            charts={CHARTS[column]: Markup(svg) for column, svg in trainings.charts().items()},
            columns=COLUMNS,
            rows=trainings.rows(),
            commands=[run.command for run in trainings.runs],
            machine=to_dict(trainings.runs[0].machine),
            versions=trainings.runs[0].versions,
            differences=trainings.differences(),
            names=trainings.names,
        )
    )
    others = "-".join(Path(folder).resolve().name for folder in folders[1:])
    target = Path(folders[0]) / (f"report-with-{others}.html" if others else PAGE_FILE)
    write_text(target, text)
    return target
