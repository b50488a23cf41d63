import numpy as np
import pytest
import torch

from metaformer.core.errors import DataError
from metaformer.data.batch_plan import BatchPlan
from metaformer.data.sources import open_data

SHAPES = {"signals": (2, 12), "pictures": (1, 6, 5), "volumes": (1, 4, 3, 5)}


def write(path, shape=(2, 12), **changes):
    random = np.random.default_rng(0)
    arrays = {"x": random.normal(size=(40, *shape)), "y": np.arange(40) % 4}
    arrays |= {"x_test": random.normal(size=(8, *shape)), "y_test": np.arange(8) % 4}
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_arrays_of_one_two_and_three_axes_are_opened(tmp_path, shape):
    source = open_data(f"npz:{write(tmp_path / 'x.npz', shape)}")
    facts = source.facts
    assert (facts.in_chans, *facts.image_size) == shape
    assert (facts.num_train, facts.num_validation, facts.num_test) == (36, 4, 8)
    batches = list(source.train_batches(BatchPlan(seed=0, epoch=0, batch_size=12)))
    inputs = torch.cat([batch for batch, _ in batches])
    assert inputs.shape == (36, *shape)
    assert abs(float(inputs.mean())) < 1e-5
    assert sum(len(labels) for _, labels in source.evaluation_batches("test")) == 8


def test_text_labels_and_no_test_split_are_told(tmp_path):
    file = write(tmp_path / "x.npz", y=np.array(["low", "high"] * 20), x_test=None, y_test=None)
    facts = open_data(str(file)).facts
    assert (facts.class_names, facts.num_test) == (("high", "low"), 0)
    assert [str(note) for note in facts.notes] == [
        "x read as 2 channels of 12",
        "no x_test and y_test: there is no test split",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((40, 12))}, r"must hold numbers of shape .*Without channels, give it one: x\[:, None\]"),
        ({"y": np.zeros(39, int)}, "one for each of 40 inputs"),
        ({"y": np.zeros(40)}, "must be whole numbers or text"),
        ({"y": None}, "must hold arrays x and y; it holds x, x_test, y_test"),
        ({"x": np.full((40, 2, 12), np.nan)}, "holds NaN or infinity"),
        ({"y_test": np.full(8, 9)}, "has classes that training lacks: 9"),
        ({"x_test": np.zeros((8, 2, 13))}, "has another shape than x"),
    ],
    ids=["no channels", "too few labels", "real labels", "no labels", "nan", "new class", "other size"],
)
def test_what_cannot_be_read_one_way_is_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        open_data(f"npz:{write(tmp_path / 'x.npz', **changes)}")


def test_a_file_of_something_else_is_refused_in_one_line(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"hello")
    with pytest.raises(DataError, match="cannot read"):
        open_data(f"npz:{tmp_path / 'x.npz'}")


def test_the_same_arrays_elsewhere_come_in_the_same_order(tmp_path):
    batches = []
    for place in ("here", "elsewhere"):
        (tmp_path / place).mkdir()
        np.savez(tmp_path / place / "x.npz", x=np.arange(60.0).reshape(60, 1, 1), y=np.arange(60) % 2)
        data = open_data(f"npz:{tmp_path / place / 'x.npz'}")
        plan = BatchPlan(seed=0, epoch=0, batch_size=54)
        batches.append(next(iter(data.train_batches(plan)))[0])
    torch.testing.assert_close(*batches, rtol=0, atol=0)
