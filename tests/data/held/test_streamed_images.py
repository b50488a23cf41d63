"""Shards that are read from beginning to end, from the disk or a server."""

import functools
import http.server
import logging
import threading

import pytest
import torch

from metaformer.core.errors import ConfigError, DataError
from metaformer.data.augment.augmentation import AugmentationConfig
from metaformer.data.formats import webdataset
from metaformer.data.held import hold
from metaformer.data.held.large_images import LargeImages
from metaformer.data.held.memory_images import MemoryImages
from metaformer.data.held.shuffle_buffer import shuffled
from metaformer.data.held.streamed_images import StreamedImages
from metaformer.data.image_set import ShardedImages
from metaformer.data.preparation import Preparation
from metaformer.data.sources import open_data

pytest.importorskip("webdataset")

NOTHING = AugmentationConfig(crop="none", flip=0.0, color_jitter=0.0)


def preparation(augmentation=None, **settings):
    chosen = augmentation or AugmentationConfig(erasing=0.5)
    return Preparation(**({"augmentation": chosen, "image_size": (8, 8)} | settings))


@pytest.fixture
def streaming(monkeypatch):
    """However small shards are, they are not kept."""
    monkeypatch.setattr(hold, "LISTED_BYTES", 0)


@pytest.fixture
def shards(tmp_path, sets, streaming):
    for number in range(4):
        sets.shard(tmp_path / f"toy-train-{number:02}.tar", range(16 * number, 16 * number + 16))
    sets.shard(tmp_path / "toy-val-00.tar", range(100, 109))
    return tmp_path


def pictures(some):
    return [image.numpy().tobytes() for images, _ in some for image in images]


def test_workers_and_interruptions_change_nothing(shards, batches, caplog):
    source = open_data(f"wds:{shards}", preparation())
    assert isinstance(source, StreamedImages)
    assert isinstance(source._found["train"], ShardedImages)
    expected = batches.epoch(source, epoch=2)
    assert len(expected) == 8
    workers = open_data(f"wds:{shards}", preparation(), num_workers=2)
    assert batches.same(batches.epoch(workers, epoch=2), expected)
    with caplog.at_level(logging.INFO, "metaformer.data"):
        assert batches.same(batches.epoch(source, epoch=2, first_step=5), expected[5:])
    assert caplog.messages == [f"reading wds:{shards} forward by 40 images to step 6"]
    assert not batches.same(batches.epoch(source, epoch=3), expected)
    assert not batches.same(batches.epoch(source, epoch=2, seed=1), expected)


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_processes_share_the_images_of_an_epoch(shards, batches, world_size):
    source = open_data(f"wds:{shards}", preparation(NOTHING))
    ranks = [batches.epoch(source, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [len(steps) for steps in ranks] == [8] * world_size
    seen = [picture for steps in ranks for picture in pictures(steps)]
    assert len(seen) == len({*seen}) == 64
    assert pictures(batches.joined(ranks)) != pictures(batches.epoch(source, epoch=1))


def test_shards_that_cannot_be_dealt_out_are_cut(shards, sets, batches):
    # Three shards for two processes: one and a half each.
    (shards / "toy-train-03.tar").unlink()
    source = open_data(f"wds:{shards}", preparation(NOTHING))
    assert source.facts.num_train == 48
    ranks = [pictures(batches.epoch(source, rank=rank, world_size=2)) for rank in range(2)]
    assert [len(rank) for rank in ranks] == [24, 24]
    assert len({*ranks[0], *ranks[1]}) == 48


def test_an_epoch_may_be_longer_or_shorter_than_the_data(shards, batches):
    source = open_data(f"wds:{shards}", preparation(NOTHING, num_train_images=96))
    seen = pictures(batches.epoch(source))
    assert len(seen) == 96
    assert len({*seen}) == 64
    assert len(batches.epoch(open_data(f"wds:{shards}", preparation(num_train_images=16)))) == 2


@pytest.mark.parametrize("world_size", [1, 3])
def test_images_are_held_out_where_there_is_no_validation_split(shards, batches, world_size):
    (shards / "toy-val-00.tar").unlink()
    source = open_data(f"wds:{shards}", preparation(NOTHING, validation_fraction=0.25))
    facts = source.facts
    assert facts.num_train + facts.num_validation == 64
    assert 8 <= facts.num_validation <= 24
    trained = pictures(batches.epoch(source, batch_size=facts.num_train))
    held_out = [
        picture
        for rank in range(world_size)
        for picture in pictures(source.evaluation_batches("validation", rank=rank, world_size=world_size))
    ]
    assert len({*trained}) == facts.num_train
    assert len(held_out) == len({*held_out}) == facts.num_validation
    assert not {*trained} & {*held_out}
    assert "held out" in facts.description
    assert facts.num_test == 0
    assert facts.class_names == ("0", "1", "2")


def test_broken_images_of_a_stream(tmp_path, sets, batches, streaming):
    sets.shard(tmp_path / "train-0.tar", range(40), broken=(7, 23))
    sets.shard(tmp_path / "val-0.tar", range(40, 48), broken=(41,))
    source = open_data(f"wds:{tmp_path}", preparation(NOTHING))
    assert len({*pictures(batches.epoch(source, batch_size=20))}) == 38
    assert sum(len(labels) for _, labels in source.evaluation_batches("validation")) == 7
    names = sorted(name for name, _ in source.unreadable)
    assert names == ["train-0.tar: 00007.png", "train-0.tar: 00023.png", "val-0.tar: 00041.png"]


def test_a_label_outside_the_classes_names_the_image(shards):
    with pytest.raises(DataError, match=r"toy-train-0\d.tar: \d+.png has the label 2; the classes are 0 to 1\."):
        open_data(f"wds:{shards}", preparation(num_classes=2))


def test_errors_of_workers_and_shards_arrive(shards, batches):
    (shards / "toy-train-02.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match=r"cannot read the shard .*toy-train-02.tar"):
        open_data(f"wds:{shards}", preparation())
    (shards / "toy-train-02.tar").unlink()
    source = open_data(f"wds:{shards}", preparation(), num_workers=1)
    (shards / "toy-train-01.tar").unlink()
    with pytest.raises(DataError, match=r"cannot read the shard .*toy-train-01.tar: No such file"):
        batches.epoch(source)


def test_patterns(shards):
    braces = open_data(f"wds:{shards}/toy-{{train-{{00..01}},val-00}}.tar", preparation())
    assert (braces.facts.num_train, braces.facts.num_validation) == (32, 9)
    stars = open_data(f"wds:{shards}/toy-*.tar", preparation())
    assert (stars.facts.num_train, stars.facts.num_validation) == (64, 9)
    with pytest.raises(DataError, match=r"there is no shard .*toy-train-04\.tar"):
        open_data(f"wds:{shards}/toy-train-{{00..04}}.tar", preparation())
    with pytest.raises(
        ConfigError, match=r"shards are read from folders, http:// and https://; got 's3://bucket/a.tar'"
    ):
        open_data("wds:s3://bucket/a.tar", preparation())
    with pytest.raises(ConfigError, match=r"a server cannot be asked for .* Write the numbers out"):
        open_data("wds:http://localhost/train-*.tar", preparation())
    with pytest.raises(ConfigError, match=r"max_train_images needs data with an index.*num_train_images=5"):
        open_data(f"wds:{shards}", preparation(max_train_images=5))


def test_small_local_shards_have_an_index(tmp_path, sets, batches):
    for number in range(2):
        sets.shard(tmp_path / f"{number}.tar", range(16 * number, 16 * number + 16))
    source = open_data(f"wds:{tmp_path}", preparation(validation_fraction=0.25))
    assert isinstance(source, MemoryImages)
    assert (source.facts.num_train, source.facts.num_validation) == (24, 8)
    ranks = [batches.epoch(source, rank=rank, world_size=2) for rank in range(2)]
    assert batches.same(batches.joined(ranks), batches.epoch(source))
    by_image = open_data(f"wds:{tmp_path}", preparation(AugmentationConfig(auto_augment="rand-m9")))
    assert isinstance(by_image, LargeImages)


class Handler(http.server.SimpleHTTPRequestHandler):
    num_broken = 0

    def log_message(self, *_):
        pass

    def copyfile(self, source, outputfile):
        if Handler.num_broken:
            Handler.num_broken -= 1
            outputfile.write(source.read(20_000))
            self.close_connection = True
            return
        super().copyfile(source, outputfile)


@pytest.fixture
def server(shards, monkeypatch):
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    monkeypatch.setattr(webdataset, "PAUSE_S", 0.01)
    Handler.num_broken = 0
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(shards)))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def test_shards_of_a_server(shards, server, batches, caplog):
    settings = preparation(num_train_images=64, num_classes=3)
    pattern = "toy-{train-{00..03},val-00}.tar"
    remote = open_data(f"wds:{server}/{pattern}", settings)
    assert (remote.facts.num_train, remote.facts.num_validation) == (64, 9)
    expected = batches.epoch(open_data(f"wds:{shards}/{pattern}", settings))
    assert batches.same(batches.epoch(remote), expected)
    # A shard that breaks off is opened again where it broke.
    Handler.num_broken = 2
    assert batches.same(batches.epoch(remote), expected)
    assert "opening it again" in caplog.text
    Handler.num_broken = 10**6
    with pytest.raises(DataError, match=r"cannot read the shard http://.*\.tar: the connection broke"):
        batches.epoch(remote)


def test_a_server_says_nothing_of_numbers(server):
    with pytest.raises(ConfigError, match=r"does not say how many training images it has\. .*num_train_images"):
        open_data(f"wds:{server}/toy-{{train-00,val-00}}.tar", preparation(num_classes=3))
    with pytest.raises(ConfigError, match=r"does not say how many classes it has\. .*num_classes"):
        open_data(f"wds:{server}/toy-{{train-00,val-00}}.tar", preparation(num_train_images=16))
    with pytest.raises(DataError, match=r"cannot read the shard http.*train-07\.tar: the server answers 404"):
        open_data(f"wds:{server}/toy-train-07.tar", preparation(num_train_images=16, num_classes=3))


def test_a_streamed_data_set_of_hugging_face(tmp_path, sets, batches):
    pytest.importorskip("datasets")
    sets.parquet(tmp_path / "data" / "train-00000-of-00001.parquet", range(32), 8)
    sets.parquet(tmp_path / "data" / "test-00000-of-00001.parquet", range(32, 41), 8)
    source = open_data(
        f"hfids/{tmp_path / 'data'}:{tmp_path / 'cache'}", preparation(NOTHING, validation_fraction=0.25)
    )
    assert isinstance(source, StreamedImages)
    facts = source.facts
    assert facts.class_names == ("ant", "bee", "cat")
    assert (facts.num_train + facts.num_validation, facts.num_test) == (32, 9)
    trained = pictures(batches.epoch(source, batch_size=facts.num_train))
    held_out = pictures(source.evaluation_batches("validation"))
    assert len({*trained, *held_out}) == len(trained) + len(held_out) == 32
    labels = torch.cat([labels for _, labels in source.evaluation_batches("test")])
    assert labels.tolist() == [number % 3 for number in range(32, 41)]


def test_a_shuffle_buffer_keeps_everything_and_moves_it():
    values = list(range(100))
    one = list(shuffled(iter(values), size=10, key=1))
    assert sorted(one) == values
    assert one != values
    assert one == list(shuffled(iter(values), size=10, key=1)) != list(shuffled(iter(values), size=10, key=2))
    # Nothing comes earlier than the buffer allows.
    assert all(value < place + 11 for place, value in enumerate(one))
    assert list(shuffled(iter([]), size=10, key=1)) == []
