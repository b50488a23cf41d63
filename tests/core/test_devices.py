import pytest
import torch

from metaformer.core.devices import choose_device, parse_device
from metaformer.core.errors import ConfigError


def test_the_processor_is_always_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert parse_device("cpu:0") == ("cpu", None)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cpu:x", "device must be as cuda or cuda:1; got 'cpu:x'. Try 'cpu'."),
        ("cpu:", "device must be as cuda or cuda:1; got 'cpu:'. Try 'cpu'."),
        ("cpu:7", "device must be one of cpu:0 to cpu:0 here; got 'cpu:7'."),
        ("cpu:" + "9" * 5000, "device must be one of cpu:0 to cpu:0 here"),
        ("gpu", "unknown device 'gpu'."),
        ("", "unknown device ''."),
    ],
    ids=lambda text: text[:12],
)
def test_a_device_that_is_not_here_is_one_line(device, message):
    with pytest.raises(ConfigError) as caught:
        choose_device(device)
    assert str(caught.value).startswith(message)
