import csv

import torch

from metaformer.deploy.confusion import Confusion


def test_the_pairs_that_occur_are_the_matrix():
    true, predicted = torch.randint(0, 7, (2, 200))
    confusion = Confusion.of(true, predicted, num_classes=7)
    expected = torch.zeros(7, 7, dtype=torch.int64)
    for one, other in zip(true.tolist(), predicted.tolist(), strict=True):
        expected[one, other] += 1
    assert torch.equal(confusion.matrix(), expected)
    assert torch.equal(confusion.of_class, expected.sum(1))
    assert torch.equal(confusion.right, expected.diagonal())
    for index in range(7):
        wrong = expected[index].clone()
        wrong[index] = 0
        assert confusion.taken_for(index)[1] == wrong.max()


def test_a_class_that_is_never_mistaken_is_taken_for_nothing():
    confusion = Confusion.of(torch.tensor([2, 2]), torch.tensor([2, 2]), num_classes=5)
    assert confusion.taken_for(2) is confusion.taken_for(0) is None


def test_tens_of_thousands_of_classes_cost_a_row_a_pair():
    true = torch.tensor([0, 21_840, 21_840])
    confusion = Confusion.of(true, torch.tensor([3, 21_840, 21_840]), num_classes=21_841)
    rows = list(csv.reader(confusion.as_csv(str).splitlines()))
    assert rows == [["true", "predicted", "images"], ["0", "3", "1"], ["21840", "21840", "2"]]
    small = Confusion.of(torch.tensor([0]), torch.tensor([1]), num_classes=2)
    assert small.as_csv("ab".__getitem__) == "true \\ predicted,a,b\na,0,1\nb,0,0\n"
