"""What the package's own commands run: quick to find, verified, never a wrong one."""

import pytest
import torch
from torch import nn

from metaformer.fast import fastest_form as home
from metaformer.fast.candidates import CANDIDATES
from metaformer.fast.fastest_form import fastest_form, known_good
from metaformer.fast.trial import Trial
from metaformer.models.metaformer import MetaFormer


@pytest.fixture
def model(small, shake):
    return shake(MetaFormer(small)).eval()


@pytest.fixture(autouse=True)
def no_trial(monkeypatch):
    def refuse(*_arguments, **_options):
        raise AssertionError("a short command must not pay for a trial")

    monkeypatch.setattr(home, "optimize", refuse)


@pytest.mark.parametrize("is_built", [True, False])
@torch.no_grad()
def test_few_images_get_a_known_good_form_without_a_trial(model, images, is_built, monkeypatch):
    monkeypatch.setattr(home, "is_built", lambda: is_built)
    form = fastest_form(model, images, num_images=3)
    assert form is not model
    for batch in (images, images[:1], torch.randn(5, 3, 64, 96)):
        torch.testing.assert_close(form(batch), model(batch), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_in_another_dtype_scores_are_those_of_the_model(model, images):
    form = fastest_form(model, images, dtype=torch.bfloat16)
    assert form(images).dtype == torch.float32
    assert (form(images) - model(images)).abs().max() < 6e-2 * model(images).abs().max()


def test_a_wrong_or_broken_form_is_passed_over(model, images, monkeypatch):
    def broken(_model, _dtype):
        raise RuntimeError("burnt")

    class Wrong(nn.Module):
        def forward(self, x):
            return model(x) + 1

    monkeypatch.setattr(home, "is_built", lambda: True)
    monkeypatch.setitem(CANDIDATES, "native", broken)
    monkeypatch.setitem(CANDIDATES, "folded", lambda _model, _dtype: Wrong())
    assert fastest_form(model, images) is model


def test_the_choice_of_an_earlier_trial_comes_first(model, images, monkeypatch):
    monkeypatch.setattr(home, "cached_trial", lambda *_: Trial(rows=(), chosen="original"))
    assert fastest_form(model, images) is model


def test_long_work_pays_for_a_trial(model, images, monkeypatch):
    asked = []
    monkeypatch.setattr(home, "optimize", lambda one, example, dtype: asked.append((example, dtype)) or one)
    fastest_form(model, images, num_images=10**9)
    assert asked == [(images, torch.float32)]


def test_what_is_no_metaformer_stays_as_it_is(model, images):
    other = nn.Flatten()
    assert fastest_form(other, images) is other
    assert fastest_form(model, images[:0]) is model
    form = fastest_form(model, images)
    assert fastest_form(form, images) is form


def test_known_good_names_are_candidates():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        assert set(known_good(dtype, torch.device("cpu"))) <= set(CANDIDATES)
    assert known_good(torch.float32, torch.device("cuda")) == ()
