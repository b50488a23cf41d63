import shutil

import pytest
import torch

from metaformer.models.metaformer import MetaFormer
from metaformer.train import compiling
from metaformer.train.compiling import compiled
from metaformer.train.execution import Execution
from metaformer.train.loop import EpochResult, StepResult, train

COMPILE = Execution(compile=True)


def test_not_wanted_is_the_model_itself(tiny):
    model = MetaFormer(tiny)
    assert compiled(model, Execution()) is model


@pytest.mark.parametrize("own", [None, "my-compiler"])
def test_without_a_compiler_it_warns_and_training_goes_on(tiny, stripes, short, monkeypatch, caplog, own):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    if own:
        monkeypatch.setenv("CXX", own)
    *_, last = train(MetaFormer(tiny), stripes, short, seed=0, execution=COMPILE)
    assert isinstance(last, EpochResult)
    (record,) = caplog.records
    names = own or "c++, g++, clang++, cl"
    assert (
        record.getMessage() == f"execution.compile needs a C++ compiler ({names}), and none is here: going on without."
    )


@pytest.mark.slow
def test_a_compiled_model_trains_as_the_plain_one(tiny, stripes, short, no_shape_checks):
    if not any(map(shutil.which, compiling.COMPILERS)):
        pytest.skip("no C++ compiler here")
    losses = []
    for execution in (Execution(), COMPILE):
        torch.manual_seed(0)
        results = train(MetaFormer(tiny), stripes, short, seed=0, execution=execution)
        losses.append([result.loss for result in results if isinstance(result, StepResult)])
    # Dropout draws other numbers in compiled code.
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
