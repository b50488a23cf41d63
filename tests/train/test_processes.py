import re
from types import SimpleNamespace

import pytest
import torch

from metaformer.core.errors import ConfigError, StoppedError
from metaformer.train.config import Execution, TrainConfig
from metaformer.train.mixing import MixingConfig
from metaformer.train.processes import LostProcessError, local_batch_size, naming_lost_processes, start_fabric

TWO = SimpleNamespace(world_size=2, global_rank=1)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_one_process_without_torchrun(device):
    fabric = start_fabric(TrainConfig(), Execution(device=device))
    assert (fabric.world_size, fabric.global_rank) == (1, 0)
    if device == "cpu":
        assert fabric.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "unknown execution.device 'gpu'."),
        ("cpu:first", "execution.device must be as cuda or cuda:1; got 'cpu:first'. Try 'cpu'."),
        ("cpu:3", "execution.device must be one of cpu:0 to cpu:0 here; got 'cpu:3'."),
    ],
)
def test_a_device_that_is_not_here_is_refused(device, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        start_fabric(TrainConfig(), Execution(device=device))


@pytest.mark.parametrize(("batch_size", "world_size", "expected"), [(64, 1, 64), (64, 4, 16), (7, 1, 7)])
def test_each_process_has_an_equal_part_of_the_batch(batch_size, world_size, expected):
    assert local_batch_size(TrainConfig(batch_size=batch_size), world_size) == expected


@pytest.mark.parametrize(
    ("options", "world_size", "message"),
    [
        (
            {"batch_size": 10},
            4,
            "train.batch_size must be a multiple of the number of processes (4); got 10. Try 8.",
        ),
        ({"batch_size": 1}, 4, "train.batch_size must be a multiple of the number of processes (4); got 1. Try 4."),
        (
            {"batch_size": 12, "mixing": MixingConfig(mixup=1.0)},
            4,
            "train.mixing mixes pairs, so each of the 4 processes must have an even part of train.batch_size; got 12. "
            "Try 16.",
        ),
    ],
    ids=str,
)
def test_a_batch_that_cannot_be_divided_is_refused_with_one_that_can(options, world_size, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        local_batch_size(TrainConfig(**options), world_size)
    nearest = int(message.rstrip(".").rsplit(" ", 1)[1])
    local_batch_size(TrainConfig(**(options | {"batch_size": nearest})), world_size)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:3317"),
        RuntimeError("Timed out waiting 1800000ms for recv operation to complete"),
        torch.distributed.DistBackendError("NCCL communicator was aborted"),
        torch.distributed.DistNetworkError("The client socket has failed"),
    ],
    ids=str,
)
def test_what_the_network_says_of_a_lost_process_is_one_sentence(error):
    with pytest.raises(LostProcessError) as caught, naming_lost_processes(TWO):
        raise error
    assert str(caught.value) == (
        "another of the 2 processes of this training ended; process 1 stops too. What was saved stays: the same "
        "command goes on from there."
    )


@pytest.mark.parametrize(
    ("world_size", "error"),
    [
        (1, RuntimeError("Connection closed by peer")),
        (2, RuntimeError("shapes do not match")),
        (2, StoppedError("cannot write the checkpoint /data/nccl/socket/checkpoint-0001-000000.pt: the disk is full.")),
        (2, ConfigError("connection")),
    ],
    ids=str,
)
def test_other_errors_stay_what_they_are(world_size, error):
    with (
        pytest.raises(type(error)) as caught,
        naming_lost_processes(SimpleNamespace(world_size=world_size, global_rank=0)),
    ):
        raise error
    assert caught.value is error
