import pytest
import torch

from metaformer.block.site import Site
from metaformer.block.token_mixers import SpatialMLPConfig
from metaformer.core.errors import ShapeError


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_it_is_one_matrix_product_for_each_channel(site, bias):
    mixer = SpatialMLPConfig(bias=bias).build(site).double()
    x = torch.randn(2, site.dim, *site.grid, dtype=torch.float64)
    out = mixer(x)
    shift = mixer.fc.bias if bias else 0
    for sample in range(2):
        for channel in range(site.dim):
            expected = mixer.fc.weight @ x[sample, channel].flatten() + shift
            torch.testing.assert_close(out[sample, channel].flatten(), expected)


def test_the_default_has_no_bias(site):
    assert list(SpatialMLPConfig().build(site).state_dict()) == ["fc.weight"]


def test_another_grid_is_refused():
    mixer = SpatialMLPConfig().build(Site(dim=4, grid=(4, 6), stage=3, index=1))
    message = (
        r"^the spatial MLP of stages\.3\.blocks\.1 is built for a grid of 4x6 tokens; got 8x3\. "
        r"Create the model with the image_size of your images"
    )
    with pytest.raises(ShapeError, match=message):
        mixer(torch.randn(1, 4, 8, 3))


def moved(mixer, new_grid):
    other = SpatialMLPConfig(bias=True).build(Site(dim=4, grid=new_grid, stage=0, index=0))
    other.load_state_dict(mixer.resize(mixer.state_dict(), mixer.grid, new_grid))
    return other


@pytest.fixture
def mixer():
    return SpatialMLPConfig(bias=True).build(Site(dim=4, grid=(4, 6), stage=0, index=0))


def test_on_its_own_grid_a_resized_mixer_is_the_same(mixer):
    x = torch.randn(2, 4, 4, 6)
    torch.testing.assert_close(moved(mixer, (4, 6))(x), mixer(x))


@pytest.mark.parametrize("new_grid", [(8, 12), (3, 5), (1, 4)], ids=str)
def test_a_global_mean_stays_one_on_another_grid(mixer, new_grid):
    torch.nn.init.constant_(mixer.fc.weight, 1 / 24)
    torch.nn.init.constant_(mixer.fc.bias, 0.5)
    x = torch.randn(2, 4, *new_grid)
    expected = x.mean(dim=(-2, -1), keepdim=True).expand_as(x) + 0.5
    torch.testing.assert_close(moved(mixer, new_grid)(x), expected)


def test_resized_weights_without_bias_have_none():
    mixer = SpatialMLPConfig().build(Site(dim=4, grid=(2, 2), stage=0, index=0))
    assert list(mixer.resize(mixer.state_dict(), (2, 2), (3, 3))) == ["fc.weight"]
