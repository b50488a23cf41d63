import torch

from metaformer.block.token_mixers import IdentityConfig


def test_it_changes_nothing(site):
    x = torch.randn(1, site.dim, *site.grid)
    assert IdentityConfig().build(site)(x) is x


def test_it_has_no_state(site):
    assert not IdentityConfig().build(site).state_dict()
