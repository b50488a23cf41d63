"""Numbers in configs: what is no number, not finite or out of bounds is one line, whatever config it is in."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.norm import NORMS
from metaformer.block.residual import ResidualConfig
from metaformer.block.token_mixers import TOKEN_MIXERS
from metaformer.core.checked import check_number
from metaformer.core.configs import to_dict
from metaformer.core.errors import ConfigError
from metaformer.models.config import HeadConfig, PatchEmbeddingConfig, Preprocessing
from metaformer.models.zoo import ZOO

pytestmark = pytest.mark.usefixtures("no_shape_checks")

CONFIGS = (
    *(mixer() for _, mixer in TOKEN_MIXERS.items()),
    *(norm() for _, norm in NORMS.items()),
    *(ChannelMLPConfig(), ResidualConfig(), PatchEmbeddingConfig(), HeadConfig(), Preprocessing()),
    ZOO["poolformer_s12"],
)
NUMBERS = [
    pytest.param(config, field.name, id=f"{type(config).__name__}.{field.name}")
    for config in CONFIGS
    for field in dataclasses.fields(config)
    if any(word in str(field.type) for word in ("int", "float", "Grid"))
]


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -1e300, "10", 10**5000, True, [[1]]],
    ids=lambda v: str(v)[:5] if not isinstance(v, int) else type(v).__name__,
)
@pytest.mark.parametrize(("config", "name"), NUMBERS)
def test_what_is_no_number_in_bounds_is_one_line_that_names_the_field(config, name, value):
    many = isinstance(getattr(config, name), tuple)
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(config, **{name: (value,) * max(1, len(getattr(config, name))) if many else value})
    assert str(caught.value).startswith(f"{type(config).__name__}.{name}")
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_the_list_of_fields_is_not_empty():
    assert len(NUMBERS) > 30


def test_one_number_in_place_of_many_is_refused():
    with pytest.raises(ConfigError, match=r"^MetaFormerConfig\.dims must be a list of numbers; got 5\.$"):
        dataclasses.replace(ZOO["poolformer_s12"], dims=5)


def test_numbers_of_numpy_and_lists_become_pythons_own():
    config = dataclasses.replace(
        ZOO["poolformer_s12"], num_classes=np.int64(7), drop_path=np.float32(0.5), dims=[8, 8, 8, 8]
    )
    assert type(config.num_classes) is int
    assert hash(config)
    assert to_dict(config)["drop_path"] == 0.5


@dataclass(frozen=True)
class Sample:
    x: object


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (0, {"least": 1}, "Sample.x must be at least 1; got 0."),
        (0.0, {"above": 0}, "Sample.x must be above 0; got 0.0."),
        (11, {"most": 10}, "Sample.x must be at most 10; got 11."),
        (1, {"least": 0, "below": 1}, "Sample.x must be in [0, 1); got 1."),
        (2, {"above": 0, "most": 1}, "Sample.x must be in (0, 1]; got 2."),
        (1.5, {"whole": True}, "Sample.x must be a whole number; got 1.5."),
        (10**400, {}, "Sample.x must be at most 1,000,000,000; got a number of 401 digits."),
        ((1, -1), {"many": True, "least": 0}, "Sample.x[1] must be at least 0; got -1."),
    ],
    ids=str,
)
def test_a_message_says_what_is_allowed(value, bounds, message):
    with pytest.raises(ConfigError) as caught:
        check_number(Sample(value), "x", **bounds)
    assert str(caught.value) == message


def test_none_is_for_fields_that_may_be_none():
    check_number(Sample(None), "x", optional=True, least=1)
    with pytest.raises(ConfigError, match=r"^Sample\.x must be a number; got None\.$"):
        check_number(Sample(None), "x", least=1)
