import pytest
import torch
from torch import nn

from metaformer.train.config import TrainConfig
from metaformer.train.muon import ADAMW_RMS, Muon, orthogonalise
from metaformer.train.optimizer import make_optimizer


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6), (1, 5)], ids=str)
def test_singular_values_come_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_singular_vectors_stay():
    matrix = torch.randn(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    # In the basis of its own singular vectors the result is diagonal.
    inside = left.T @ orthogonalise(matrix) @ right.T
    assert (inside - inside.diag().diag()).abs().max() < 1e-9


def step(weight, gradient, **options):
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient
    optimizer = Muon([parameter], **options)
    optimizer.step()
    return parameter.detach() - weight


def test_a_matrix_moves_by_an_orthogonal_step_of_the_size_of_adamw():
    gradient = torch.randn(64, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    change = step(torch.zeros(64, 32, 3, 3), gradient, lr=0.1)
    assert change.square().mean().sqrt().item() == pytest.approx(0.1 * ADAMW_RMS, rel=0.25)
    # Whatever the size of the gradient.
    assert torch.allclose(change, step(torch.zeros(64, 32, 3, 3), 1000 * gradient, lr=0.1), atol=1e-4)


@pytest.mark.parametrize("shape", [(7,), (7, 1, 3, 3), (7, 1)], ids=str)
def test_biases_scales_and_depthwise_kernels_move_as_with_adamw(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(2, 6)]
    moved = []
    for optimizer in (Muon, torch.optim.AdamW):
        parameter = nn.Parameter(weight.clone())
        made = optimizer([parameter], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
        for gradient in gradients:
            parameter.grad = gradient
            made.step()
        moved.append(parameter.detach())
    torch.testing.assert_close(*moved)


def test_weight_decay_shrinks_the_weights():
    weight = torch.ones(4, 4)
    change = step(weight, torch.zeros(4, 4), lr=0.1, weight_decay=0.5)
    torch.testing.assert_close(change, torch.full((4, 4), -0.05))


def test_a_state_that_comes_back_goes_on_alike():
    weight, gradients = torch.randn(6, 4), [torch.randn(6, 4) for _ in range(4)]
    straight = nn.Parameter(weight.clone())
    optimizer = Muon([straight], lr=0.1)
    for gradient in gradients:
        straight.grad = gradient
        optimizer.step()
    first = nn.Parameter(weight.clone())
    before = Muon([first], lr=0.1)
    for gradient in gradients[:2]:
        first.grad = gradient
        before.step()
    again = nn.Parameter(first.detach().clone())
    after = Muon([again], lr=0.1)
    after.load_state_dict(before.state_dict())
    for gradient in gradients[2:]:
        again.grad = gradient
        after.step()
    assert torch.equal(again, straight)


def test_the_recipe_s_name_makes_it_and_spares_norms_from_decay():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
    optimizer = make_optimizer(model, TrainConfig(optimizer="muon", lr=0.01, momentum=0.95))
    assert isinstance(optimizer, Muon)
    assert {(group["weight_decay"], group["momentum"]) for group in optimizer.param_groups} == {
        (0.0, 0.95),
        (0.05, 0.95),
    }
