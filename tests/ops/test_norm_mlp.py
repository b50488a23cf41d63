from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch.multiprocessing.reductions import StorageWeakRef

from metaformer.core.errors import ShapeError
from metaformer.ops.native.packing import pack_blocks, pack_panels, unpack_blocks, unpack_panels
from metaformer.ops.norm_mlp.native import NativeNormMLP
from metaformer.ops.norm_mlp.reference import ACTIVATIONS, NormMLP, norm_mlp
from metaformer.ops.norm_mlp.training import choose_trained_mlp, trained_norm_mlp
from metaformer.ops.normalise import sample_moments
from metaformer.ops.spare_buffers import SpareBuffers

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}


def weights(channels, hidden, dtype=torch.float64):
    return {
        "weight1": torch.randn(hidden, channels, dtype=dtype) / channels**0.5,
        "bias1": torch.randn(hidden, dtype=dtype),
        "weight2": torch.randn(channels, hidden, dtype=dtype) / hidden**0.5,
        "bias2": torch.randn(channels, dtype=dtype),
    }


def operator(library, x, moments, *, want_moments=False, **named):
    """The C++."""
    return NativeNormMLP.pack(NormMLP(**named), library, want_moments=want_moments).run(x, moments)


def trained(x, *, products=None, factor=None, spare=None, **named):
    way = choose_trained_mlp(device=x.device, dtype=x.dtype, products=products or x.dtype, channels=x.shape[1])
    return trained_norm_mlp(x, NormMLP(**named), way, factor=factor, spare=spare)


def defined(x, *, factor=None, **named):
    return norm_mlp(x, NormMLP(**named), factor=factor)


def test_the_definition_is_norm_two_convolutions_layer_scale_and_residual():
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    norm_weight, norm_bias, layer_scale = torch.randn(3, 6, dtype=torch.float64)
    fc1, fc2 = torch.nn.Conv2d(6, 24, 1).double(), torch.nn.Conv2d(24, 6, 1).double()
    normed = F.group_norm(x, 1, norm_weight, norm_bias, 1e-5)
    expected = x + layer_scale[:, None, None] * fc2(F.gelu(fc1(normed)))
    first, second = fc1.weight.flatten(1), fc2.weight.flatten(1)
    z, moments = defined(
        x,
        weight1=first * norm_weight,
        bias1=fc1.bias + first @ norm_bias,
        weight2=layer_scale[:, None] * second,
        bias2=layer_scale * fc2.bias,
    )
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(moments, sample_moments(expected))


@pytest.mark.parametrize("norm", ["none", "sample", "token"])
def test_gradcheck_of_the_definition(norm):
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    layers = [weight.requires_grad_() for weight in weights(3, 5).values()]
    factor = torch.tensor([0.5, 1.25], dtype=torch.float64)

    def run(x, *layers):
        named = dict(zip(weights(3, 5), layers, strict=True))
        return defined(x, **named, norm=norm, factor=factor)

    assert torch.autograd.gradcheck(run, (x, *layers))


@pytest.mark.parametrize("spare", [None, SpareBuffers()], ids=["hidden computed again", "hidden kept"])
@pytest.mark.parametrize("slice_of", [1 << 20, 64], ids=["one slice", "many slices"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_equals_the_definition_forward_and_backward(activation, slice_of, spare, monkeypatch):
    monkeypatch.setattr("metaformer.ops.norm_mlp.training_plain.SLICE", slice_of)
    x = (torch.randn(3, 6, 4, 5, dtype=torch.float64) + 0.5).requires_grad_()
    layers = {name: weight.requires_grad_() for name, weight in weights(6, 20).items()}
    res_scale = torch.rand(6, dtype=torch.float64, requires_grad=True)
    factor = torch.tensor([0.0, 1.25, 1.25], dtype=torch.float64)
    options = {"activation": activation, "eps": 1e-3, "res_scale": res_scale, "factor": factor}
    expected, _ = defined(x, **layers, **options)
    actual = trained(x, **layers, **options, spare=spare)
    torch.testing.assert_close(actual, expected)
    seed, leaves = torch.randn_like(expected), (x, *layers.values(), res_scale)
    for mine, its in zip(*(torch.autograd.grad(z, leaves, seed) for z in (actual, expected)), strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.usefixtures("library", "poisoned")
@pytest.mark.parametrize("spare", [None, SpareBuffers()], ids=["hidden computed again", "hidden kept"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(1, 3, (1, 4)), (24, 96, (7, 7)), (33, 600, (5, 9)), (40, 80, (13, 31))], ids=str)
def test_training_in_cpp_equals_the_definition_forward_and_backward(sizes, activation, spare):
    channels, hidden, grid = sizes
    x = (torch.randn(3, channels, *grid) + 0.5).requires_grad_()
    layers = {name: weight.requires_grad_() for name, weight in weights(channels, hidden, torch.float32).items()}
    res_scale, factor = torch.rand(channels, requires_grad=True), torch.tensor([0.0, 1.25, 1.25])
    leaves = (x, *layers.values(), res_scale)
    for extra in ({}, {"res_scale": res_scale}, {"res_scale": res_scale, "factor": factor}):
        actual = trained(x, **layers, activation=activation, eps=1e-3, **extra, spare=spare)
        wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
        named = dict(zip(layers, wide[1:5], strict=True))
        doubled = {name: wide[5] if name == "res_scale" else value.double() for name, value in extra.items()}
        expected, _ = defined(wide[0], **named, activation=activation, eps=1e-3, **doubled)
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=5e-5)
        seed, num = torch.randn(x.shape), 6 if extra else 5
        mine = torch.autograd.grad(actual, leaves[:num], seed)
        its = torch.autograd.grad(expected, wide[:num], seed.double())
        for a, b in zip(mine, its, strict=True):
            assert (a - b).norm() < 1e-5 * b.norm() + 1e-6


def test_training_in_cpp_is_the_same_every_time(library):
    x, layers = torch.randn(3, 24, 9, 9, requires_grad=True), weights(24, 96, torch.float32)
    for weight in layers.values():
        weight.requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        losses = [trained(x, **layers, activation="gelu", eps=1e-5).square().sum() for _ in range(3)]
        runs = [torch.autograd.grad(loss, (x, *layers.values())) for loss in losses]
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_training_under_autocast_multiplies_in_bfloat16_and_gives_gradients_in_float32():
    x = torch.randn(2, 16, 4, 4, requires_grad=True)
    layers = {name: weight.requires_grad_() for name, weight in weights(16, 64, torch.float32).items()}
    expected, _ = defined(x, **layers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = trained(x, products=torch.bfloat16, **layers, activation="gelu", eps=1e-5)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=5e-2, atol=5e-2)
    assert not torch.equal(actual, expected)
    seed = torch.randn_like(expected)
    for mine, its in zip(
        *(torch.autograd.grad(z, (x, *layers.values()), seed) for z in (actual, expected)), strict=True
    ):
        assert mine.dtype == torch.float32
        assert (mine - its).norm() < 2e-2 * its.norm()


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_kept_hidden_tensor_is_used_once_and_goes_back(dtype):
    spare, layers = SpareBuffers(), weights(8, 40, dtype)
    x = torch.randn(2, 8, 9, 9, dtype=dtype, requires_grad=True)
    z = trained(x, **layers, activation="gelu", eps=1e-5, spare=spare)
    first = torch.autograd.grad(z.square().sum(), x, retain_graph=True)
    (buffers,) = spare._spare.values()
    assert sum(buffer.numel() for buffer in buffers) >= 2 * 81 * 40
    # Somebody else writes into it now; the same graph does without.
    buffers[0].fill_(float("nan"))
    again = torch.autograd.grad(z.square().sum(), x)
    torch.testing.assert_close(again, first)
    # Taken by the next step; not at all where there will be no backward pass.
    with torch.no_grad():
        trained(x, **layers, activation="gelu", eps=1e-5, spare=spare)
    trained(x.detach(), **layers, activation="gelu", eps=1e-5, spare=spare)
    assert len(buffers) == 1
    trained(x, **layers, activation="gelu", eps=1e-5, spare=spare)
    assert not buffers


def test_training_keeps_nothing_hidden_unless_it_may():
    kept = []
    x, layers = torch.randn(2, 8, 9, 9, requires_grad=True), weights(8, 64, torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        trained(x, **layers, activation="gelu", eps=1e-5)
    assert sum(tensor.numel() >= x.numel() for tensor in kept) == 1


@pytest.mark.parametrize("tile_columns", [12, 16, 32])
@pytest.mark.parametrize("shape", [(6, 24), (33, 300), (1, 1)], ids=str)
def test_packing_and_back(shape, tile_columns):
    matrix = torch.randn(shape)
    assert torch.equal(unpack_panels(pack_panels(matrix, tile_columns), shape[0]), matrix)
    assert torch.equal(unpack_blocks(pack_blocks(matrix, tile_columns), *shape), matrix)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_operator_equals_the_definition(library, activation, dtype, layouts):
    for channels, hidden, grid in ((1, 3, (1, 4)), (24, 96, (7, 7)), (33, 600, (5, 9))):
        layers, res_scale = weights(channels, hidden, torch.float32), torch.rand(channels)
        wide = {name: weight.double() for name, weight in layers.items()}
        for norm, x in zip(
            ("sample", "token", "none"), layouts(torch.randn(3, channels, *grid).to(dtype)), strict=True
        ):
            expected, _ = defined(x.double(), **wide, activation=activation, norm=norm, res_scale=res_scale.double())
            options = {"res_scale": res_scale, "activation": activation, "norm": norm, "want_moments": True}
            z, moments = operator(library, x, sample_moments(x), **layers, **options)
            tolerance = TOLERANCE[dtype]
            torch.testing.assert_close(z.double(), expected, rtol=tolerance, atol=5 * tolerance)
            torch.testing.assert_close(moments, sample_moments(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("tokens", [(1, 3), (7, 7), (31, 29)], ids=str)
def test_however_threads_share_the_work_the_result_is_the_same(library, tokens, threads):
    # Few tokens with many hidden channels are shared by hidden channels, the others by tokens.
    layers, x = weights(40, 1100, torch.float32), torch.randn(1, 40, *tokens)
    expected, _ = defined(x, **layers, norm="token")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = [operator(library, x, None, **layers, norm="token", want_moments=True)[0] for _ in range(3)]
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(results[0], expected, rtol=1e-5, atol=2e-5)
    assert all(torch.equal(result, results[0]) for result in results)


def test_without_the_residual(library):
    layers, x = weights(6, 24, torch.float32), torch.randn(2, 6, 3, 3)
    expected, _ = defined(x, **layers, skip=False)
    z, moments = operator(library, x, sample_moments(x), **layers, skip=False)
    torch.testing.assert_close(z, expected, rtol=1e-5, atol=1e-5)
    assert moments is None


def test_weights_packed_on_another_kind_of_machine_still_work(library):
    layers, x = weights(6, 24, torch.float32), torch.randn(2, 6, 3, 3)
    expected, _ = defined(x, **layers)
    other = replace(library, tile_columns=2 * library.tile_columns)
    z, _ = operator(other, x, sample_moments(x), **layers)
    torch.testing.assert_close(z, expected, rtol=1e-5, atol=1e-5)


def test_weights_of_another_shape_are_refused(library):
    packed = NativeNormMLP.pack(NormMLP(**weights(6, 24, torch.float32), norm="none"), library)
    with pytest.raises(ShapeError, match=r"bias2 must be \d+ contiguous float32"):
        replace(packed, bias2=packed.bias2[:5]).run(torch.randn(1, 6, 2, 2), None)
    with pytest.raises(ShapeError, match="fc1 must be"):
        packed.run(torch.randn(1, 7, 2, 2), None)


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_activations_are_right_far_out(library, activation):
    x = torch.linspace(-30, 30, 4001).reshape(1, 1, 1, -1)
    one = {"weight1": torch.ones(1, 1), "bias1": torch.zeros(1), "weight2": torch.ones(1, 1), "bias2": torch.zeros(1)}
    y, _ = operator(library, x, None, **one, activation=activation, norm="none", eps=0.0, skip=False)
    torch.testing.assert_close(y, ACTIVATIONS[activation](x), rtol=2e-6, atol=2e-6)


def test_a_checkpointed_block_keeps_no_hidden_tensor():
    spare, alive = SpareBuffers(), []
    take = spare.take
    spare.take = lambda shape, dtype: (
        alive.append(StorageWeakRef((buffer := take(shape, dtype)).untyped_storage())) or buffer
    )
    layers = weights(8, 40, torch.float32)
    x = torch.randn(2, 8, 9, 9, requires_grad=True)

    def run(x):
        return trained(x, **layers, spare=spare)

    expected = torch.autograd.grad(run(run(x)).square().sum(), x)
    alive.clear()
    spare.clear()
    z = x
    for _ in range(2):
        z = torch.utils.checkpoint.checkpoint(run, z, use_reentrant=False)
    assert len(alive) == 2
    assert all(kept.expired() for kept in alive)
    torch.testing.assert_close(torch.autograd.grad(z.square().sum(), x), expected)
