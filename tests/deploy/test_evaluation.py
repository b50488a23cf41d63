import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchmetrics.functional.classification as torchmetrics

from metaformer.core.errors import ConfigError, DataError
from metaformer.core.records import Evaluation, Recorder, UnreadableImage, read_record
from metaformer.data.formats.cluttered_digits import ClutteredDigits
from metaformer.data.formats.digits import Digits
from metaformer.data.image_set import ImageSet
from metaformer.data.sources import open_images
from metaformer.deploy.classifier import Classifier, open_classifier
from metaformer.deploy.confusion import Confusion
from metaformer.deploy.evaluation import ImageEvaluation, evaluate_images, evaluate_source
from metaformer.deploy.evaluation_record import settings_of, write_evaluation
from metaformer.models.metaformer import MetaFormer
from metaformer.train.evaluation import ClassSums

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


@pytest.fixture
def classifier(named_run):
    return open_classifier(None, named_run)


def test_the_accuracy_of_the_run_comes_again(digits_run):
    record = read_record(digits_run)
    result = evaluate_source(open_classifier(None, digits_run), Digits())
    assert record.measured.test_accuracy_percent > 50
    assert result.top1 == pytest.approx(record.measured.test_accuracy_percent, abs=1e-9)
    assert result.loss == pytest.approx(record.measured.test_loss, rel=1e-4)
    assert result.num_images == 500
    assert (result.unreadable, result.class_note) == ((), "")


def test_measures_equal_those_of_torchmetrics(digits_run):
    classifier = open_classifier(None, digits_run)
    images, labels = Digits().test()
    with torch.inference_mode():
        scores = classifier.model(images)
    result = evaluate_source(classifier, Digits(), batch_size=77)
    accuracy = [
        100 * float(torchmetrics.multiclass_accuracy(scores, labels, 10, average="micro", top_k=k)) for k in (1, 5)
    ]
    assert [result.top1, result.top5] == pytest.approx(accuracy, abs=1e-4)
    assert torch.equal(result.confusion.matrix(), torchmetrics.multiclass_confusion_matrix(scores, labels, 10))
    assert result.loss == pytest.approx(float(torch.nn.functional.cross_entropy(scores, labels)), rel=1e-5)


def test_mirror_images_count_as_much_as_the_images(digits_run):
    classifier, data = open_classifier(None, digits_run), Digits()
    images, labels = next(data.evaluation_batches("test", batch_size=data.facts.num_test))
    with torch.no_grad():
        model = classifier.model.eval()
        scores = (model(images) + model(images.flip(-1))) / 2
    result = evaluate_source(classifier, data, mirror=True)
    assert result.loss == pytest.approx(float(F.cross_entropy(scores, labels)), rel=1e-4)
    assert result.top1 == pytest.approx(100 * float((scores.argmax(dim=1) == labels).float().mean()))
    assert result.loss != pytest.approx(evaluate_source(classifier, data).loss, rel=1e-3)


def test_files_give_what_the_data_in_memory_give(classifier, digits_run, scans):
    expected = evaluate_source(open_classifier(None, digits_run), Digits())
    seen = []
    result = evaluate_images(classifier, open_images(str(scans)), watch=lambda *done: seen.append(done))
    # Files have 256 levels of grey, the embedded scans more.
    assert result.top1 == pytest.approx(expected.top1, abs=0.5)
    assert result.loss == pytest.approx(expected.loss, rel=0.01)
    assert seen[-1] == (500, 0)
    assert result.class_note == "classes matched by name: their orders differ"


def test_folders_in_another_order_than_the_classes(classifier, nameless_run, scans):
    """The famous evaluation that reports chance."""
    right = evaluate_images(classifier, open_images(str(scans))).top1
    nameless = open_classifier(None, nameless_run)
    wrong = evaluate_images(nameless, open_images(str(scans)))
    assert wrong.top1 < 25 < 50 < right
    assert "the weights name no classes" in wrong.class_note
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for class_map in ({word: index for index, word in enumerate(words)},):
        mapped = evaluate_images(nameless, open_images(str(scans)), class_map=class_map)
        assert mapped.top1 == pytest.approx(right)
        assert mapped.class_note == "classes by the class map"


def test_images_that_cannot_be_read_are_named_and_not_counted(classifier, scans, tmp_path):
    folder = shutil.copytree(scans, tmp_path / "scans")
    victims = sorted(folder.rglob("*.png"))[::100]
    for victim in victims:
        victim.write_bytes(victim.read_bytes()[:50])
    result = evaluate_images(classifier, open_images(str(folder)), batch_size=32)
    assert result.num_images == 500 - len(victims)
    assert int(result.confusion.num_images.sum()) == result.num_images
    assert sorted(name for name, _ in result.unreadable) == [str(victim) for victim in victims]
    for victim in folder.rglob("*.png"):
        victim.write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 500 images of .* can be read: .*: the file is empty"):
        evaluate_images(classifier, open_images(str(folder)))


def test_data_that_the_model_does_not_fit_are_refused(classifier, digits_run, tmp_path, scans):
    with pytest.raises(ConfigError, match=r"the model takes images of 1x16x16; cluttered-digits has 1x11x11"):
        evaluate_source(classifier, ClutteredDigits())
    shutil.copytree(scans / "one", tmp_path / "one")
    shutil.copytree(scans / "two", tmp_path / "zwei")
    with pytest.raises(ConfigError, match=r"the model has no class 'zwei'"):
        evaluate_images(classifier, open_images(str(tmp_path)))
    with pytest.raises(ConfigError, match=r"split must be test or validation for digits; got 'train'"):
        evaluate_source(open_classifier(None, digits_run), Digits(), split="train")


def test_a_label_beyond_the_classes_is_named(classifier, tmp_path):
    arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": (b""), "path": None}]
    pq.write_table(arrow.table({"img": images, "label": [10]}), tmp_path / "test.parquet")
    # An image that cannot be read has no say; one that can is refused.
    with pytest.raises(DataError, match="none of the 1 images"):
        evaluate_images(classifier, open_images(str(tmp_path)))
    from PIL import Image

    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    images = [{"bytes": (tmp_path / "a.png").read_bytes(), "path": None}]
    pq.write_table(arrow.table({"img": images, "label": [10]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"test.parquet, row 0 has the label 10; expected 0 to 9"):
        evaluate_images(classifier, open_images(str(tmp_path)))


def test_other_statistics_than_the_datas_are_the_models(digits_run):
    classifier = open_classifier(None, digits_run)
    model = classifier.model
    shifted = replace(model.config, preprocessing=replace(model.config.preprocessing, mean=(0.0,), std=(1.0,)))
    model.config = shifted
    before = evaluate_source(open_classifier(None, digits_run), Digits()).loss
    after = evaluate_source(classifier, Digits()).loss
    assert after != pytest.approx(before, rel=1e-3)


@pytest.mark.skipif(not CIFAR10.exists(), reason=f"no photographs at {CIFAR10}")
def test_photographs_as_parquet_and_as_a_folder_are_the_same(small, tmp_path):
    config = replace(small, image_size=(32, 32), preprocessing=replace(small.preprocessing, crop_fraction=1.0))
    from itertools import islice

    images = open_images(f"cifar10:{CIFAR10}")
    samples = list(islice(images, 60))

    class Some(ImageSet):
        name, class_names, num_images = "some", images.class_names, 60

        def __iter__(self):
            return iter(samples)

    for index, sample in enumerate(samples):
        file = tmp_path / images.class_names[sample.label] / f"{index}.jpg"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(sample.image)
    classifier = Classifier(model=MetaFormer(config), class_names=images.class_names)
    one = evaluate_images(classifier, Some())
    other = evaluate_images(classifier, open_images(str(tmp_path)), batch_size=7)
    assert torch.equal(one.confusion.matrix(), other.confusion.matrix())
    assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_the_interval_is_wilsons():
    def interval(right, num):
        sums = ClassSums()
        # Two classes: the first is right.
        scores = torch.tensor([[1.0, 0.0]]).expand(num, 2)
        sums.add(scores, (torch.arange(num) >= right).long())
        result = ImageEvaluation(
            sums=sums.result(),
            confusion=Confusion.of(torch.zeros(0).long(), torch.zeros(0).long(), num_classes=2),
            unreadable=(),
            images_per_second=1.0,
            model_images_per_second=1.0,
        )
        return result.top1_interval

    # Brown, Cai and DasGupta (2001): at the ends it does not leave 0 to 100.
    assert interval(0, 10) == pytest.approx((0, 27.75), abs=0.01)
    assert interval(10, 10) == pytest.approx((72.25, 100), abs=0.01)
    # Nor by rounding: what is printed has no minus.
    assert (interval(0, 7)[0], interval(9, 9)[1]) == (0.0, 100.0)
    assert not any(f"{interval(0, num)[0]:.2f}".startswith("-") for num in range(1, 200))
    assert interval(50, 100) == pytest.approx((40.38, 59.62), abs=0.01)


def test_the_record_holds_what_was_measured(classifier, scans, tmp_path):
    folder = shutil.copytree(scans, tmp_path / "scans")
    (folder / "one" / "broken.png").touch()
    shutil.rmtree(folder / "nine")
    result = evaluate_images(classifier, open_images(str(folder)))
    recorder = Recorder(Evaluation, name="digits", config=settings_of(classifier), command="", seed=None)
    write_evaluation(result, classifier, tmp_path / "out", recorder)
    record = read_record(tmp_path / "out", Evaluation)
    assert record.kind == "evaluation"
    assert (record.measured.top1_percent, record.measured.top5_percent) == (result.top1, result.top5)
    assert record.measured.num_unreadable == 1
    broken = UnreadableImage(name=str(folder / "one" / "broken.png"), reason="the file is empty")
    assert record.measured.unreadable == (broken,)
    # A class without images has no accuracy.
    assert record.measured.per_class_accuracy_percent[9] is None
    assert len(record.config["weights"]["sha256"]) == 64
    json.dumps(record.config, allow_nan=False)
    rows = list(csv.reader((tmp_path / "out" / "confusion.csv").read_text().splitlines()))
    assert rows[0][1:] == [row[0] for row in rows[1:]] == list(classifier.class_names)
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == result.confusion.matrix().tolist()
