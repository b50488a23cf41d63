import json
import subprocess
import sys
from pathlib import Path

import pytest

from metaformer.core.compiling import COMPILERS, cpp_compiler
from metaformer.models.metaformer import MetaFormer
from metaformer.train.config import Execution
from metaformer.train.first_model import compiled
from metaformer.train.loop import EpochResult, train

SCRIPT = Path(__file__).parent / "training_process.py"
COMPILE = Execution(compile=True)


def test_not_wanted_is_the_model_itself(tiny):
    model = MetaFormer(tiny)
    assert compiled(model, Execution()) is model


@pytest.mark.parametrize("own", [None, "my-compiler"])
def test_without_a_compiler_it_warns_and_training_goes_on(tiny, stripes, short, monkeypatch, caplog, own):
    monkeypatch.setattr("metaformer.core.compiling.shutil.which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    if own:
        monkeypatch.setenv("CXX", own)
    *_, last = train(MetaFormer(tiny), stripes, short, seed=0, execution=COMPILE)
    assert isinstance(last, EpochResult)
    (record,) = caplog.records
    names = own or ", ".join(COMPILERS)
    assert (
        record.getMessage() == f"execution.compile needs a C++ compiler ({names}), and none is here: going on without."
    )


@pytest.mark.slow
def test_a_compiled_model_trains_as_the_plain_one(tmp_path):
    """In a process of its own: the compiler's own warnings are no errors there."""
    if cpp_compiler() is None:
        pytest.skip("no C++ compiler here")
    losses = []
    for compile in (False, True):
        # With drop path, whose numbers are handed in; without dropout, whose compiled code draws others.
        options = {"dropout": 0.0, "execution": {"compile": compile, "micro_batch_size": 3}}
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(tmp_path / str(compile)), json.dumps(options)],
            stdout=subprocess.PIPE,
            text=True,
            timeout=600,
            check=True,
        )
        losses.append([float(line.split()[3]) for line in done.stdout.splitlines() if line[:2] == "0 "])
    assert len(losses[0]) == 15
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
