from dataclasses import replace

import pytest
import torch
from torch import nn

from metaformer.models.metaformer import MetaFormer
from metaformer.train.config import Execution, Run, TrainConfig
from metaformer.train.first_model import set_grad_checkpointing
from metaformer.train.loop import StepResult, train
from metaformer.train.run import perform
from metaformer.train.stopping import OutOfMemoryError, advice, is_out_of_memory, peak_memory_mib


def test_the_peak_is_that_of_this_process():
    before = peak_memory_mib(torch.device("cpu"))
    size_mib = int(before) + 50
    block = torch.ones(size_mib, 2**18)
    assert size_mib < peak_memory_mib(torch.device("cpu")) < before + size_mib + 200
    del block


@pytest.mark.parametrize(
    ("error", "expected"),
    [(MemoryError(), True), (torch.OutOfMemoryError(), True), (RuntimeError("shapes"), False), (OSError(), False)],
    ids=str,
)
def test_what_counts_as_too_little_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_pytorchs_own_words_on_the_cpu_are_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_the_advice_names_what_can_still_be_changed_most_harmless_first():
    assert advice(TrainConfig(), Execution(), 64) == (
        "out of memory with 64 images at once. Try --execution.micro-batch-size 32 (the same steps in smaller parts); "
        "or --execution.grad-checkpointing (slower by about a third); or --train.precision bf16-mixed; or a smaller "
        "model or --preparation.image-size."
    )
    least = Execution(micro_batch_size=1, grad_checkpointing=True)
    assert advice(TrainConfig(precision="bf16-mixed"), least, 64) == (
        "out of memory with 1 images at once. Try a smaller model or --preparation.image-size."
    )


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=str)
def test_a_run_without_memory_says_what_to_change(tiny, stripes, short, tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(MetaFormer, "forward", fail)
    run = Run(name="run", model=tiny, data="stripes", train=short, seed=0)
    with pytest.raises(
        OutOfMemoryError, match=r"^out of memory with 4 images at once\. Try --execution\.micro-batch-size 2"
    ):
        list(perform(run, stripes, tmp_path, command="", execution=Execution(micro_batch_size=4)))


def test_grad_checkpointing_computes_twice_and_changes_nothing(tiny, stripes, short):
    losses, counts = [], []
    for grad_checkpointing in (False, True):
        torch.manual_seed(0)
        model = MetaFormer(replace(tiny, depths=(2, 2)))
        calls = []
        model.stages[1].blocks[1].register_forward_pre_hook(lambda m, i, calls=calls: calls.append(m.training))
        execution = Execution(grad_checkpointing=grad_checkpointing)
        results = train(model, stripes, short, seed=0, execution=execution)
        losses.append([result.loss for result in results if isinstance(result, StepResult)])
        counts.append(sum(calls))
    assert counts == [10, 20]
    # Dropout included: the second time draws what the first did.
    assert losses[1] == losses[0]


def test_a_model_that_cannot_checkpoint_gradients_goes_on_without(caplog):
    set_grad_checkpointing(nn.Linear(1, 1), Execution())
    assert not caplog.records
    set_grad_checkpointing(nn.Linear(1, 1), Execution(grad_checkpointing=True))
    assert "Linear does not: going on without." in caplog.text
