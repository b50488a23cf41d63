import pytest
import torch
import torch.nn.functional as F

from metaformer.ops.normalise import normalise, sample_moments

SHAPES = [(2, 6, 7, 7), (3, 5, 5, 9), (2, 3, 1, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_equals_torchs_norms_without_weight_and_bias(shape):
    x = 3 * torch.randn(shape, dtype=torch.float64) + 1
    torch.testing.assert_close(normalise(x, "sample", eps=1e-3), F.group_norm(x, 1, eps=1e-3))
    tokens = x.movedim(1, -1)
    expected = F.layer_norm(tokens, tokens.shape[-1:], eps=1e-3).movedim(-1, 1)
    torch.testing.assert_close(normalise(x, "token", eps=1e-3), expected)
    assert normalise(x, "none", eps=1e-3) is x


def test_given_moments_are_used():
    x = torch.randn(2, 4, 3, 3)
    moments = torch.tensor([[1.0, 4.0], [2.0, 0.25]])
    expected = torch.stack([(x[0] - 1) / 2, (x[1] - 2) / 0.5])
    torch.testing.assert_close(normalise(x, "sample", eps=0.0, moments=moments), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_features_are_widened(dtype):
    x = torch.randn(2, 4, 3, 3).to(dtype)
    for kind in ("none", "sample", "token"):
        assert normalise(x, kind, eps=1e-5).dtype == torch.float32
    torch.testing.assert_close(sample_moments(x), sample_moments(x.float()))


def test_moments_are_mean_and_variance_of_each_sample():
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    rows = x.flatten(1)
    expected = torch.stack([rows.mean(dim=1), rows.var(dim=1, correction=0)], dim=1)
    torch.testing.assert_close(sample_moments(x), expected)
