import errno
import os
import pickle
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from metaformer.core.errors import DataError, StoppedError
from metaformer.train.checkpoint import Checkpoints

STATE = {
    "settings": {"seed": 0, "model": None},
    "epoch": 3,
    "step": 0,
    "history": {"train_loss": [2.0, 1.0, 0.5]},
    "best": {"accuracy": 50.0, "epoch": 2},
    "loss_sum": 0.0,
    "seconds": 1.5,
    "epoch_seconds": 0.5,
    "model": {"weight": torch.arange(6.0).reshape(2, 3)},
    "average": None,
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    "precision": {},
}
FILE = "checkpoint-0003-000000.pt"


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def state_at(epoch, step):
    return STATE | {"epoch": epoch, "step": step}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def expect_one_line_error(folder, match):
    with pytest.raises(DataError, match=match) as caught:
        Checkpoints(folder).load()
    assert "\n" not in str(caught.value)
    assert str(folder / FILE) in str(caught.value)
    assert "Delete it to start the run again." in str(caught.value)


def test_a_checkpoint_comes_back(tmp_path):
    Checkpoints(tmp_path).save(STATE)
    state = Checkpoints(tmp_path).load()
    assert torch.equal(state.pop("model")["weight"], STATE["model"]["weight"])
    assert state == {key: value for key, value in STATE.items() if key != "model"}


@pytest.mark.parametrize("folder", ["", "none/there"])
def test_an_empty_folder_has_none(tmp_path, folder):
    assert Checkpoints(tmp_path / folder).load() is None
    assert Checkpoints(tmp_path / folder).load_best() is None


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_last_few_are_kept_and_the_newest_is_read(tmp_path, keep):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    # Numbers of more digits than the name has room for still count as numbers.
    places = [(0, 5), (1, 0), (9999, 7), (9999, 1000000), (10000, 0), (12345, 1)]
    for place in places:
        checkpoints.save(state_at(*place))
    assert [path.name for path in checkpoints.paths()] == [f"checkpoint-{e:04d}-{s:06d}.pt" for e, s in places[-keep:]]
    assert checkpoints.load()["epoch"] == 12345
    assert len(names(tmp_path)) == keep


def test_a_failed_write_leaves_the_one_before_and_nothing_beside_it(tmp_path):
    Checkpoints(tmp_path).save(STATE)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        Checkpoints(tmp_path).save(state_at(4, 0) | {"model": lambda: None})
    assert Checkpoints(tmp_path).load()["epoch"] == 3
    assert names(tmp_path) == [FILE]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full"), (errno.EACCES, "Permission denied")],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_write_that_the_system_refuses_says_why_and_what_is_saved(tmp_path, monkeypatch, number, reason, is_first):
    checkpoints = Checkpoints(tmp_path)
    if not is_first:
        checkpoints.save(STATE)

    def refuse(state, file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(torch, "save", refuse)
    kept = "None was written yet." if is_first else f"{FILE} is whole: the same command goes on from there."
    path = tmp_path / "checkpoint-0004-000002.pt"
    with pytest.raises(StoppedError, match=f"^{re.escape(f'cannot write the checkpoint {path}: {reason}. {kept}')}$"):
        checkpoints.save(state_at(4, 2))
    assert names(tmp_path) == ([] if is_first else [FILE])


def test_a_device_without_room_is_a_full_disk(tmp_path, monkeypatch):
    # The real error of the system, through torch's own writer.
    @contextmanager
    def full(target):
        yield Path("/dev/full")

    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr("metaformer.train.checkpoint.atomic_path", full)
    with pytest.raises(StoppedError, match=r"the disk is full\. None was written yet\.$"):
        Checkpoints(tmp_path).save(STATE)


@pytest.mark.parametrize("damage", [b"damaged", b""], ids=["other bytes", "empty"])
def test_a_damaged_newest_falls_back_to_the_one_before_with_a_warning(tmp_path, caplog, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(2, 0))
    newest = tmp_path / FILE
    newest.write_bytes(damage)
    assert checkpoints.load()["epoch"] == 2
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(newest) in record.message
    assert record.message.endswith("Going on from the one before, checkpoint-0002-000000.pt.")
    assert "Delete" not in record.message
    # Going on leaves the damaged one behind: it must not count as newer.
    Checkpoints(tmp_path, keep=1).save(state_at(2, 3))
    assert names(tmp_path) == ["checkpoint-0002-000003.pt"]


def test_what_a_killed_process_left_is_swept_away_and_nothing_else(tmp_path):
    half = [".checkpoint-0003-000000.pt.x1_y2z3w.part", ".best.pt.abcdefgh.part", ".log.csv.abcdefgh.part"]
    half += [".model.safetensors.abcdefgh.part", ".run.json.abcdefgh.part"]
    other = [".film.mkv.part", "checkpoint-x.pt", "notes.part"]
    for name in half + other:
        (tmp_path / name).write_bytes(b"half")
    Checkpoints(tmp_path).load()
    assert names(tmp_path) == sorted(other)


def test_the_best_weights_come_back_and_are_cleared_with_the_rest(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(STATE)
    checkpoints.save_best({"model": STATE["model"], "epoch": 2, "accuracy": 50.0})
    assert checkpoints.load_best()["epoch"] == 2
    (tmp_path / "model.safetensors").write_bytes(b"result")
    checkpoints.clear()
    assert names(tmp_path) == ["model.safetensors"]


def test_damaged_best_weights_are_refused(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"^cannot read the checkpoint"):
        Checkpoints(tmp_path).load_best()


@pytest.mark.parametrize("part", [0, 0.01, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, part):
    Checkpoints(tmp_path).save(STATE)
    path = tmp_path / FILE
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
    (tmp_path / FILE).write_bytes(content)
    expect_one_line_error(tmp_path, "checkpoint")


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"model": {}}, torch.zeros(3), *({k: v for k, v in STATE.items() if k != key} for key in STATE)],
    ids=["a list", "a part", "a tensor", *(f"no {key}" for key in STATE)],
)
def test_something_else_that_torch_wrote_is_refused(tmp_path, content):
    torch.save(content, tmp_path / FILE)
    expect_one_line_error(tmp_path, "is not a checkpoint of a training run")


@pytest.mark.parametrize("how", ["torch", "old torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, how):
    proof = tmp_path / "proof"
    state, path = STATE | {"model": Hostile(proof)}, tmp_path / FILE
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
