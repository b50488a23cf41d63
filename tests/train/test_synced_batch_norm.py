"""In one process; tests/train/test_many_processes.py compares several with one."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from metaformer.train.processes import SyncedBatchNorm, synchronise_batch_norm


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def pair(**options):
    """PyTorch's and ours, in float64."""
    plain = nn.BatchNorm2d(3, **options).double().train()
    if plain.affine:
        nn.init.normal_(plain.weight)
        nn.init.normal_(plain.bias)
    synced = nn.Sequential(nn.BatchNorm2d(3, **options).double().train())
    synced[0].load_state_dict(plain.state_dict())
    synchronise_batch_norm(synced)
    assert type(synced[0]) is SyncedBatchNorm
    return plain, synced[0]


@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 0.1}], ids=str
)
@pytest.mark.parametrize("grid", [(7, 7), (5, 9), (1, 4)], ids=str)
def test_it_equals_batch_norm_forward_backward_and_in_its_statistics(process_group, options, grid):
    plain, synced = pair(**options)
    for _ in range(2):
        x = torch.randn(4, 3, *grid, dtype=torch.float64, requires_grad=True)
        expected, actual = plain(x), synced(x)
        torch.testing.assert_close(actual, expected)
        seed = torch.randn_like(expected)
        inputs = (x, *plain.parameters()), (x, *synced.parameters())
        grads = [torch.autograd.grad(y, i, seed) for y, i in zip((expected, actual), inputs, strict=True)]
        torch.testing.assert_close(grads[1], grads[0])
    torch.testing.assert_close(synced.state_dict(), plain.state_dict())
    torch.testing.assert_close(synced.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mean_far_above_the_spread_costs_no_digits(process_group, dtype):
    layer = SyncedBatchNorm(2).train()
    x = (1000 + 4 * torch.randn(8, 2, 16, 16)).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    expected = (x.double() - x.double().mean((0, 2, 3), keepdim=True)) / x.double().std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(y.double(), expected, atol=2e-2, rtol=1e-2)


def test_without_other_processes_it_is_batch_norm():
    plain, synced = pair()
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    assert torch.equal(synced(x), plain(x))


def test_other_batch_norms_are_named(caplog):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm1d(3), nn.LayerNorm(3))
    synchronise_batch_norm(model)
    assert [type(part) for part in model] == [SyncedBatchNorm, nn.BatchNorm1d, nn.LayerNorm]
    assert "BatchNorm1d are not synchronised" in caplog.text
