"""What the user gets wrong is one line on stderr and exit code 2."""

import io
import re
import sys

import pytest

from metaformer.cli.main import run


@pytest.fixture(params=["utf-8", "ascii"])
def refused(request, capsys, monkeypatch):
    """Runs a command that must be refused; returns the one line without its start.

    The error box of tyro, which must not be seen, is drawn in two ways.
    """

    def call(*words):
        output = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding=request.param, write_through=True))
            assert run(list(words)) == 2
            assert output.getvalue() == b""
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert captured.err.endswith("\n")
        assert captured.err.startswith("error: ")
        assert "Traceback" not in captured.err
        assert not re.search(r"[│╭╰─]|\x1b", captured.err)
        return captured.err.removeprefix("error: ").strip()

    return call


QUICK = ("study", "quick")


def words_only(value):
    return " ".join(value) if value and value[0] in ("study", "profile", "models", "doctor", "report") else ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["modles"], "unknown command 'modles'. Did you mean 'models'? See: metaformer --help"),
        (["xyzzy"], "unknown command 'xyzzy'. See: metaformer --help"),
        (["--hlep"], "unknown command '--hlep'."),
        (["study"], "'metaformer study' needs one more word: quick, paper."),
        (["study", "quik"], "unknown command 'study quik'. Did you mean 'quick'? Known: quick, paper."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_unknown_command_names_the_nearest(refused, words, message):
    assert refused(*words).startswith(message)


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        ([*QUICK, "--train.epoch", "3"], "--train.epochs"),
        ([*QUICK, "--sedes", "3"], "--seeds"),
        ([*QUICK, "--train.batchsize", "3"], "--train.batch-size"),
        (["profile", "poolformer_s12", "--image-sise", "64"], "--image-size"),
    ],
    ids=words_only,
)
def test_an_unknown_option_names_the_nearest(refused, words, nearest):
    message = refused(*words)
    option = next(word for word in words if word.startswith("--"))
    assert option in message
    assert f"Did you mean {nearest}?" in message
    assert f"See: metaformer {' '.join(words[: 2 if words[0] == 'study' else 1])} --help" in message


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([*QUICK, "--train.epochs", "x"], ["--train.epochs", "'x'"]),
        ([*QUICK, "--train.epochs", "1.5"], ["--train.epochs", "'1.5'"]),
        ([*QUICK, "--train.epochs", "0"], ["train.epochs must be at least 1; got 0."]),
        (
            [*QUICK, "--train.epochs", "2", "--train.warmup-epochs", "2"],
            ["train.warmup_epochs must be below train.epochs (2); got 2. Try --train.warmup-epochs 0.2."],
        ),
        ([*QUICK, "--train.lr", "-1"], ["train.lr must be at least 0; got -1.0."]),
        ([*QUICK, "--train.precision", "bf16"], ["unknown train.precision 'bf16'. Did you mean 'bf16-mixed'?"]),
        ([*QUICK, "--train.optimizer", "adamww"], ["train.optimizer", "'adamww'. Did you mean 'adamw'?"]),
        ([*QUICK, "--workers", "0"], ["workers must be at least 1; got 0."]),
        ([*QUICK, "--workers", "two"], ["--workers", "'two']. See:"]),
        ([*QUICK, "--seeds"], ["--seeds"]),
        ([*QUICK, "--data", "digit"], ["unknown data source 'digit'. Did you mean 'digits'?"]),
        ([*QUICK, "--variants", "pooling,identiti"], ["unknown variant 'identiti'. Did you mean 'identity'?"]),
        (["profile"], ["NAME is missing."]),
        (["profile", "poolformer_s11"], ["unknown model 'poolformer_s11'. Did you mean 'poolformer_s12'?"]),
        (["profile", "poolformer_s12", "--image-size", "8"], ["at least 32x32 pixels", "got 8x8"]),
        (["profile", "poolformer_s12", "--image-size", "small"], ["--image-size", "small"]),
        (["profile", "poolformer_s12", "--in-chans", "0"], ["in_chans must be at least 1; got 0."]),
        (["profile", "poolformer_s12", "--num-classes", "-1"], ["num_classes must be at least 0"]),
        (["models", "poolfrmer_s12"], ["no model matches 'poolfrmer_s12'. Did you mean 'poolformer_s12'?"]),
        (["models", "a", "b"], ["b"]),
        (["doctor", "now"], ["now"]),
        (["report"], ["FOLDER is missing."]),
        (["report", "/nowhere/at/all"], ["/nowhere/at/all is not a folder."]),
    ],
    ids=words_only,
)
def test_a_wrong_request_says_what_was_given(refused, words, parts, tmp_path):
    out = ["--out", str(tmp_path / "out")] if words[0] == "study" else []
    message = refused(*words[:2], *out, *words[2:])
    for part in parts:
        assert part in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seeds", ["0", "-1", "x", "1,1", "", "0,-1"])
def test_bad_seeds(refused, seeds, tmp_path):
    message = refused(*QUICK, f"--seeds={seeds}", "--out", str(tmp_path / "out"))
    assert f"got {seeds!r}. Try 3, or 0,1,2." in message
    assert not (tmp_path / "out").exists()


def test_an_out_folder_that_holds_something_else_is_left_alone(refused, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear Sir")
    assert "holds something else than a study" in refused(*QUICK, "--out", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_out_folder_that_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "file is a file." in refused(*QUICK, "--out", str(tmp_path / "file"))
    assert "cannot write into" in refused(*QUICK, "--out", str(tmp_path / "file" / "quick"))


def test_a_report_on_a_folder_that_is_no_study(refused, tmp_path):
    assert "is not a study: it holds no run.json" in refused("report", str(tmp_path))
    (tmp_path / "run.json").write_text("[]")
    assert "cannot read" in refused("report", str(tmp_path))


def test_a_message_of_several_lines_becomes_one(refused, tmp_path):
    folder = tmp_path / "two\nlines"
    folder.mkdir()
    assert "two lines is not a study" in refused("report", str(folder))


@pytest.mark.parametrize("missing", ["jinja2", "sklearn.datasets"])
def test_a_missing_extra_is_named(run_python, missing, tmp_path):
    code = f"""
import sys
sys.modules[{missing!r}] = None
from metaformer.cli.main import run
print(run(["study", "quick", "--out", {str(tmp_path / "out")!r}]))
"""
    lines = run_python(code).splitlines()
    assert lines[-1] == "2"
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert "pip install 'metaformer[" in error
    assert len(lines) == 2
