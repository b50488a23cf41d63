"""Grad-CAM: known answers, any layout, and the sanity check by randomised weights."""

import pytest
import torch
from tests.analysis.conftest import inputs_of
from torch import nn

from metaformer.analysis import Exhibit, Journal
from metaformer.analysis.anatomy.redraw import redraw
from metaformer.analysis.probes.class_activation import ClassActivation, choose_layer, class_activation, encode_png
from metaformer.core.errors import ConfigError


class Corners(nn.Module):
    """The class is the brighter half of the image."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.ones_(self.features.weight)

    def forward(self, x):
        x = self.features(x)
        return torch.stack([x[:, 0, :, :4].mean(dim=(1, 2)), x[:, 1, :, 4:].mean(dim=(1, 2))], dim=1)


def test_the_map_lies_where_the_evidence_is():
    images = torch.zeros(1, 1, 8, 8)
    images[0, 0, 2, 6] = 1
    heat, classes = class_activation(Corners().eval(), "features", images)
    assert classes.tolist() == [1]
    assert heat[0].argmax().item() == 2 * 8 + 6
    assert heat.max() == 1


def test_any_model_and_layout(timm_model, inputs):
    images = inputs.first_images(2)
    path = choose_layer(timm_model, images[:1])
    before = timm_model(images)
    heat, _ = class_activation(timm_model, path, images)
    assert heat.shape == (2, 64, 64)
    assert heat.isfinite().all()
    torch.testing.assert_close(timm_model(images), before)


def test_randomised_weights_give_another_map(timm_model, inputs):
    """arXiv:1810.03292: a map that stays when weights are drawn anew says nothing of the model."""
    images = inputs.first_images(2)
    path, classes = choose_layer(timm_model, images[:1]), torch.tensor([1, 2])
    first, _ = class_activation(timm_model, path, images, classes=classes, method="gradient_x_activation")
    again, _ = class_activation(timm_model, path, images, classes=classes, method="gradient_x_activation")
    torch.testing.assert_close(first, again)
    redraw(timm_model)
    other, _ = class_activation(timm_model, path, images, classes=classes, method="gradient_x_activation")
    assert (first - other).abs().mean() > 0.02


def test_models_side_by_side(timm_model, inputs):
    exhibits = (Exhibit(name="a", model=timm_model), Exhibit(name="b", model=timm_model))
    panel = ClassActivation(num_images=3).measure(exhibits, inputs, Journal()).panels[0]
    assert panel.num_columns == 3
    assert len(panel.images) == 9
    assert panel.images[0].png_base64 == encode_png(inputs.first_images(1)[0].clamp(0, 1))


def test_odd_requests_get_one_line():
    with pytest.raises(ConfigError, match=r"unknown method of class activation 'gradcam'. Did you mean 'grad_cam'"):
        ClassActivation(method="gradcam")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    inputs = inputs_of(torch.randn(2, 3, 8, 8))
    with pytest.raises(ConfigError, match="m: the output of '3' has no spatial map"):
        ClassActivation(layer="3").measure((Exhibit(name="m", model=model),), inputs, Journal())
