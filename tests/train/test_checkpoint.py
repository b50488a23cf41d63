import errno
import os
import pickle
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from metaformer.core.errors import DataError, StoppedError
from metaformer.train.checkpoint import Checkpoints, seal

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
    assert Checkpoints(tmp_path / folder).load_best(1) is None


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
    assert checkpoints.load_best(2)["epoch"] == 2
    (tmp_path / "model.safetensors").write_bytes(b"result")
    checkpoints.clear()
    assert names(tmp_path) == ["model.safetensors"]


def flip(path, place):
    """One bit of the byte at this share of the file's length."""
    raw = bytearray(path.read_bytes())
    raw[min(int(place * len(raw)), len(raw) - 1)] ^= 1 << 3
    path.write_bytes(bytes(raw))


DAMAGES = {
    "removed": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "other bytes": lambda path: path.write_bytes(b"damaged"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nothing")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_best_weights_are_skipped_and_that_is_said(tmp_path, caplog, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best({"model": STATE["model"], "epoch": 2})
    damage(tmp_path / "best.pt")
    assert checkpoints.load_best(2) is None
    (record,) = caplog.records
    assert record.message.startswith("the weights of the best epoch, 2, are lost: cannot read")
    assert str(tmp_path / "best.pt") in record.message


def test_best_weights_of_another_epoch_are_not_taken_for_it(tmp_path, caplog):
    Checkpoints(tmp_path).save_best({"model": STATE["model"], "epoch": 1})
    assert Checkpoints(tmp_path).load_best(2) is None
    assert "holds epoch 1" in caplog.text


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_whatever_becomes_of_the_newest_the_one_before_takes_its_place(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(2, 0))
    checkpoints.save(STATE)
    damage(tmp_path / FILE)
    assert checkpoints.load()["epoch"] == 2
    checkpoints.save(state_at(2, 1))
    assert checkpoints.load()["step"] == 1
    checkpoints.clear()


@pytest.mark.parametrize("name", [FILE, "best.pt"])
def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path, caplog, name):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(2, 0))
    checkpoints.save(STATE)
    checkpoints.save_best({"model": STATE["model"], "epoch": 2})
    path = tmp_path / name
    whole = path.read_bytes()
    for place in [i / 100 for i in range(101)]:
        caplog.clear()
        flip(path, place)
        if name == FILE:
            assert checkpoints.load()["epoch"] == 2, place
        else:
            assert checkpoints.load_best(2) is None, place
        assert len(caplog.records) == 1
        path.write_bytes(whole)


def test_swapped_checkpoints_count_by_what_they_hold(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(2, 0))
    checkpoints.save(STATE)
    older, newer = checkpoints.paths()
    held = newer.read_bytes()
    newer.write_bytes(older.read_bytes())
    assert checkpoints.load()["epoch"] == 2
    older.write_bytes(held)
    caplog.clear()
    assert checkpoints.load()["epoch"] == 3
    assert "mixed up" in caplog.text


def test_the_folder_is_on_the_disk_before_an_older_checkpoint_is_removed(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state_at(2, 0))
    order = []
    plain_sync, plain_unlink = os.fsync, Path.unlink

    def sync(handle):
        order.append("folder" if Path(f"/proc/self/fd/{handle}").resolve() == tmp_path.resolve() else "file")
        plain_sync(handle)

    def unlink(path, **options):
        order.extend(["unlink"] * path.exists())
        plain_unlink(path, **options)

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not say which folder a handle is of")
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "unlink", unlink)
    checkpoints.save(STATE)
    assert order == ["file", "folder", "unlink"]


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
    expect_one_line_error(tmp_path, "its hash is missing")
    seal(tmp_path / FILE)
    expect_one_line_error(tmp_path, "is not a checkpoint of a training run")


@pytest.mark.parametrize("how", ["torch", "old torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, how):
    proof = tmp_path / "proof"
    state, path = STATE | {"model": Hostile(proof)}, tmp_path / FILE
    if how == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "torch")
    seal(path)
    expect_one_line_error(tmp_path, "^cannot read the checkpoint")
    assert not proof.exists()


def test_the_hostile_pickle_of_these_tests_is_one(tmp_path):
    proof = tmp_path / "proof"
    pickle.loads(pickle.dumps(Hostile(proof)))
    assert Path(proof).exists()
