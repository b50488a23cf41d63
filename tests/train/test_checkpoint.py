import os
import pickle
from pathlib import Path

import pytest
import torch

from metaformer.core.errors import DataError
from metaformer.train.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint

STATE = {
    "model": {"weight": torch.arange(6.0).reshape(2, 3)},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    "epoch": 3,
    "history": {"train_loss": [2.0, 1.0, 0.5]},
    "config": {"seed": 0, "model": None},
}


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def expect_one_line_error(folder, match):
    with pytest.raises(DataError, match=match) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    assert str(folder / CHECKPOINT_FILE) in str(caught.value)
    assert "Delete it to start the run again." in str(caught.value)


def test_a_checkpoint_comes_back(tmp_path):
    save_checkpoint(tmp_path, STATE)
    state = load_checkpoint(tmp_path)
    assert torch.equal(state.pop("model")["weight"], STATE["model"]["weight"])
    assert state == {key: value for key, value in STATE.items() if key != "model"}


def test_an_empty_folder_has_none(tmp_path):
    assert load_checkpoint(tmp_path) is None


def test_writing_again_replaces_it_and_leaves_nothing_beside_it(tmp_path):
    save_checkpoint(tmp_path, STATE)
    save_checkpoint(tmp_path, STATE | {"epoch": 4})
    assert load_checkpoint(tmp_path)["epoch"] == 4
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_a_failed_write_leaves_the_one_before(tmp_path):
    save_checkpoint(tmp_path, STATE)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(tmp_path, STATE | {"model": lambda: None})
    assert load_checkpoint(tmp_path)["epoch"] == 3
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


@pytest.mark.parametrize("part", [0, 0.01, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, part):
    save_checkpoint(tmp_path, STATE)
    path = tmp_path / CHECKPOINT_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    expect_one_line_error(tmp_path, "^cannot read the checkpoint")


@pytest.mark.parametrize(
    "content",
    [b"not a checkpoint", b"\x00" * 1000, b"\x80\x02]q\x00.", b"\x80\x02.", b"0", b"ccopy_reg\n", b"PK\x03\x04rest"]
    + [bytes([i, 255 - i, 46]) for i in range(0, 256, 5)],
    ids=lambda content: content[:8].hex(),
)
def test_garbage_is_refused(tmp_path, content):
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    expect_one_line_error(tmp_path, "checkpoint")


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"model": {}}, torch.zeros(3), {key: value for key, value in STATE.items() if key != "history"}],
    ids=["a list", "a part", "a tensor", "no history"],
)
def test_something_else_that_torch_wrote_is_refused(tmp_path, content):
    torch.save(content, tmp_path / CHECKPOINT_FILE)
    expect_one_line_error(tmp_path, "is not a checkpoint of a training run")


@pytest.mark.parametrize("how", ["torch", "old torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, how):
    proof = tmp_path / "proof"
    state, path = STATE | {"model": Hostile(proof)}, tmp_path / CHECKPOINT_FILE
    if how == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "torch")
    expect_one_line_error(tmp_path, "^cannot read the checkpoint")
    assert not proof.exists()


def test_the_hostile_pickle_of_these_tests_is_one(tmp_path):
    proof = tmp_path / "proof"
    pickle.loads(pickle.dumps(Hostile(proof)))
    assert Path(proof).exists()
