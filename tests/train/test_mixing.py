import re

import pytest
import torch

from metaformer.core.errors import ConfigError
from metaformer.train.mixing import MixingConfig, mix

NUM_CLASSES = 7
KEYS = [(0, epoch, step) for epoch in range(3) for step in range(20)]


def batch(num=8, side=8):
    """Image i is i + 1 everywhere, and of class i mod 7."""
    values = torch.arange(1.0, num + 1)
    return values[:, None, None, None].expand(num, 3, side, side).clone(), torch.arange(num) % NUM_CLASSES


def mixed(config, key, num=8, side=8):
    images, labels = batch(num, side)
    before = images.clone()
    result = mix(images, labels, config, num_classes=NUM_CLASSES, key=key)
    assert torch.equal(images, before)
    return result


def own_share(targets, num=8):
    """How much of each image's own class its target holds."""
    return targets[torch.arange(num), torch.arange(num) % NUM_CLASSES]


@pytest.mark.parametrize("config", [MixingConfig(mixup=0.8), MixingConfig(cutmix=1.0)], ids=["mixup", "cutmix"])
def test_pairs_share_images_and_classes_in_the_same_ratio(config):
    for key in KEYS:
        images, targets = mixed(config, key)
        kept = own_share(targets)
        assert torch.equal(kept, kept[:1].expand(8))
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(8))
        # The mean of an image of equal pixels is its share of one and its partner's of the other.
        own, partner = torch.arange(1.0, 9), torch.arange(8).bitwise_xor(1) + 1.0
        expected = kept * own + (1 - kept) * partner
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), expected)
        torch.testing.assert_close(targets[torch.arange(8), (torch.arange(8) ^ 1) % NUM_CLASSES], 1 - kept)


def test_mixup_is_the_same_everywhere_and_cutmix_pastes_a_box():
    for key in KEYS:
        smooth, _ = mixed(MixingConfig(mixup=1.0), key)
        assert (smooth == smooth[..., :1, :1]).all()
        pasted, targets = mixed(MixingConfig(cutmix=1.0), key)
        is_partner = pasted[0, 0] == 2
        assert set(pasted[0].unique().tolist()) <= {1.0, 2.0}
        rows, columns = is_partner.any(dim=1).nonzero(), is_partner.any(dim=0).nonzero()
        assert is_partner.sum() == len(rows) * len(columns)
        # The target says what is seen, also where the border cut the box.
        assert own_share(targets)[0] == pytest.approx(1 - is_partner.float().mean().item(), abs=1e-6)


def test_oblong_images_are_mixed_by_area_too():
    images, labels = torch.zeros(2, 1, 4, 10), torch.arange(2)
    images[1] = 1
    for key in KEYS:
        pasted, targets = mix(images, labels, MixingConfig(cutmix=1.0), num_classes=2, key=key)
        torch.testing.assert_close(pasted[0].mean(), targets[0, 1])


@pytest.mark.parametrize("num_parts", [2, 4])
@pytest.mark.parametrize(
    "config", [MixingConfig(mixup=0.8, cutmix=1.0), MixingConfig(mixup=0.2, probability=0.5)], ids=str
)
def test_an_even_part_mixes_as_it_does_in_the_whole(config, num_parts):
    images, labels = batch()
    for key in KEYS:
        whole = mix(images, labels, config, num_classes=NUM_CLASSES, key=key)
        parts = [
            mix(*part, config, num_classes=NUM_CLASSES, key=key)
            for part in zip(images.chunk(num_parts), labels.chunk(num_parts), strict=True)
        ]
        for expected, actual in zip(whole, map(torch.cat, zip(*parts, strict=True)), strict=True):
            assert torch.equal(actual, expected)


def test_the_last_of_an_odd_number_stays_as_it_is():
    images, targets = mixed(MixingConfig(mixup=0.8), (0,), num=5)
    assert (images[4] == 5).all()
    assert targets[4, 4] == 1
    assert (images[:4] != batch(5)[0][:4]).any()


def test_a_key_repeats_and_keys_differ():
    config = MixingConfig(mixup=0.8)
    shares = [own_share(mixed(config, key)[1])[0].item() for key in KEYS]
    assert shares == [own_share(mixed(config, key)[1])[0].item() for key in KEYS]
    assert len(set(shares)) == len(KEYS)


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 190, 200)])
def test_the_probability_of_mixing_is_that_of_the_config(probability, low, high):
    config = MixingConfig(mixup=1.0, probability=probability)
    num = sum(own_share(mixed(config, (i,))[1])[0].item() < 1 for i in range(200))
    assert low <= num <= high


@pytest.mark.parametrize(("switch", "low", "high"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 150, 200)])
def test_the_switch_is_the_probability_of_cutmix(switch, low, high):
    config = MixingConfig(mixup=1.0, cutmix=1.0, switch=switch)
    num = 0
    for i in range(200):
        images, _ = mixed(config, (i,))
        num += len(images[0].unique()) == 2
    assert low <= num <= high


def test_off_leaves_images_and_gives_whole_classes():
    config = MixingConfig()
    assert not config.is_on
    images, targets = mixed(config, (0,))
    assert torch.equal(images, batch()[0])
    assert torch.equal(own_share(targets), torch.ones(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -1.0}, "train.mixing.mixup must be at least 0; got -1.0. 0 is off."),
        ({"cutmix": float("nan")}, "train.mixing.cutmix must be a finite number; got nan. 0 is off."),
        ({"switch": 1.5}, "train.mixing.switch must be in [0, 1]; got 1.5."),
        ({"probability": -0.1}, "train.mixing.probability must be in [0, 1]; got -0.1."),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        MixingConfig(**options)
