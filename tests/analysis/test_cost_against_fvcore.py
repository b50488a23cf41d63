"""Our counts against the tool that the paper's authors counted with."""

import logging
import warnings

import pytest
import torch

from metaformer.analysis.cost import profile
from metaformer.models.create import create_model
from metaformer.models.metaformer import MetaFormer

# fvcore scripts and traces with torch.jit, which warns that it is old.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import get_shape

# A traced model has symbols for shapes.
pytestmark = pytest.mark.usefixtures("no_shape_checks")


def attention_macs(inputs, _outputs):
    """Query times key and weights times value; fvcore itself counts nothing here."""
    *batch, num_tokens, channels = get_shape(inputs[0])
    return 2 * torch.Size(batch).numel() * num_tokens**2 * channels


def no_macs(_inputs, _outputs):
    """The paper's counts leave layer norm out, and fvcore's do not."""
    return 0


@pytest.fixture
def fvcore_macs(monkeypatch):
    monkeypatch.setattr(logging.getLogger("fvcore"), "disabled", True)

    def count(model, image_size):
        analysis = FlopCountAnalysis(model.eval(), torch.randn(1, 3, image_size, image_size))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.set_op_handle("aten::scaled_dot_product_attention", attention_macs, "aten::layer_norm", no_macs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return analysis.total()

    return count


def test_every_small_model_costs_the_same(any_config, fvcore_macs):
    model = MetaFormer(any_config)
    assert profile(model, 64).macs == fvcore_macs(model, 64)


def test_the_whole_poolformer_s12_costs_the_same(fvcore_macs):
    model = create_model("poolformer_s12")
    assert profile(model, 224).macs == fvcore_macs(model, 224)
