"""The Hessian equals the full one, by automatic differentiation and by finite differences."""

import pytest
import torch
import torch.nn.functional as F
from tests.analysis.conftest import exhibit_of, inputs_of, isotropic
from torch import nn
from torch.func import functional_call

from metaformer.analysis import Exhibit, Inputs, Journal
from metaformer.analysis.probes.curvature import Curvature, _group_norm, hessian_of, top_eigenvalues
from metaformer.block.token_mixers import AttentionConfig
from metaformer.core.errors import ConfigError


def full_hessian(model, images, labels):
    names = [name for name, _ in model.named_parameters()]
    shapes = [parameter.shape for parameter in model.parameters()]

    def loss(flat):
        parts = flat.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(functional_call(model, values, images), labels)

    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return torch.autograd.functional.hessian(loss, flat), loss, flat


@pytest.fixture
def tiny():
    return (
        nn.Sequential(nn.Flatten(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)),
        torch.randn(6, 2, 2, 2),
        torch.arange(6) % 3,
    )


def test_top_eigenvalues_are_those_of_the_full_hessian(tiny):
    model, images, labels = tiny
    full, _, _ = full_hessian(model, images, labels)
    expected = sorted(torch.linalg.eigvalsh(full).tolist(), key=abs, reverse=True)[:5]
    assert top_eigenvalues(hessian_of(model, images, labels), 5) == pytest.approx(expected, rel=1e-2)


def test_products_are_finite_differences_of_gradients(tiny):
    model, images, labels = tiny
    _, loss, flat = full_hessian(model, images, labels)
    direction = torch.randn_like(flat)
    gradients = [torch.autograd.functional.vjp(loss, flat + sign * 1e-2 * direction)[1] for sign in (1, -1)]
    expected = (gradients[0] - gradients[1]) / 2e-2
    product = torch.as_tensor(hessian_of(model, images, labels).to_scipy() @ direction.numpy())
    torch.testing.assert_close(product, expected, rtol=2e-2, atol=1e-3)


def test_the_norm_in_parts_is_the_norm():
    x, weight, bias = torch.randn(2, 6, 3, 5), torch.randn(6), torch.randn(6)
    for num_groups in (1, 3):
        expected = F.group_norm(x, num_groups, weight, bias, 1e-3)
        torch.testing.assert_close(_group_norm(x, num_groups, weight, bias, 1e-3), expected)


def test_weight_decay_is_added_and_batches_are_kept(tiny):
    model, images, labels = tiny
    inputs = Inputs(batches=[(images, labels)], num_batches=1, augmented=[(images, labels)])
    exhibit = Exhibit(name="m", model=model)
    probe = Curvature(num_batches=1, batch_size=6, num_eigenvalues=3, weight_decay=0.0, num_lanczos=0)
    bare = probe.measure((exhibit,), inputs, Journal()).numbers["largest eigenvalue of m"]
    probe = Curvature(num_batches=1, batch_size=6, num_eigenvalues=3, weight_decay=0.5, num_lanczos=8)
    found = probe.measure((exhibit,), inputs, Journal())
    assert found.numbers["largest eigenvalue of m"] == pytest.approx(bare + 0.5, rel=1e-2)
    assert len(found.panels) == 2


def test_fused_attention_gives_way_to_the_plain_kernel():
    inputs = inputs_of(torch.randn(2, 3, 64, 64))
    probe = Curvature(num_batches=1, batch_size=2, num_eigenvalues=1, num_lanczos=0)
    found = probe.measure((exhibit_of(isotropic(AttentionConfig(), depth=1)),), inputs, Journal())
    assert found.numbers["largest eigenvalue of ours"] != 0


def test_without_augmented_images_it_says_so(tiny):
    with pytest.raises(ConfigError, match=r"give Inputs\.augmented"):
        Curvature().measure((Exhibit(name="m", model=tiny[0]),), Inputs(batches=[], num_batches=0), Journal())
