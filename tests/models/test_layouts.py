"""Layouts on reduced models: there and back, wrapped, adapted, refused. Full models are in tests/parity."""

import argparse
from dataclasses import replace

import pytest
import torch

from metaformer.core.errors import ConfigError, DataError
from metaformer.models.create import create_model
from metaformer.models.export import export_weights
from metaformer.models.identify import identify
from metaformer.models.layouts import LAYOUTS, recognise
from metaformer.models.load_weights import load_weights
from metaformer.models.metaformer import MetaFormer
from metaformer.models.published import PUBLISHED
from metaformer.models.weights import read_weights
from metaformer.models.zoo import ZOO

# What each layout knows.
FAMILIES = {
    "metaformer": ("poolformer_s12", "metaformer_ppff_s12_224", "randformer_s12", "caformer_s18"),
    "sail-sg/poolformer": ("poolformer_s12", "metaformer_pppa_s12_224", "metaformer_ppff_s12_224"),
    "sail-sg/metaformer": ("poolformerv2_s12", "randformer_s12", "convformer_s18", "caformer_s18"),
    "timm": ("poolformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18"),
    "timm-vit": ("deit_small_patch16_224",),
    "timm-mlp": ("resmlp_12_224", "mixer_s16_224"),
    "timm-swin": ("swin_tiny_patch4_window7_224",),
    "microsoft/Swin-Transformer": ("swin_tiny_patch4_window7_224",),
    "huggingface": ("poolformer_s12",),
    "mmpretrain": ("poolformer_s12",),
}
CASES = [(layout, name) for layout, names in FAMILIES.items() for name in names]


def small(name, layout="metaformer", **changes):
    config = replace(
        ZOO[name],
        dims=(64, 64, 64, 64)[: ZOO[name].num_stages],
        depths=(1,) * ZOO[name].num_stages,
        image_size=(64, 64),
        num_classes=10,
        **changes,
    )
    torch.manual_seed(0)
    return MetaFormer(replace(config, head=LAYOUTS[layout].head(config.head))).eval()


def varied(model):
    """Every tensor gets numbers of its own, so that no two could be swapped unseen."""
    for index, tensor in enumerate(model.state_dict().values()):
        tensor.copy_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(index)) * 0.1)
    return model


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(("layout", "name"), CASES, ids=str)
def test_a_model_goes_there_and_back(layout, name, suffix, tmp_path):
    model = varied(small(name, layout))
    file = tmp_path / f"weights{suffix}"
    assert export_weights(model, file, layout) == []
    back = create_model(replace(model.config, head=ZOO[name].head, num_classes=1000), weights=file).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(back(images), model(images), rtol=0, atol=0)
    assert back.config == model.config


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda state: {"state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=1.0)}, "'state_dict'"),
        (lambda state: {"model": state, "optimizer": {}}, "'model'"),
        (lambda state: {"state_dict": {}, "state_dict_ema": state}, "'state_dict_ema'"),
        (lambda state: {f"module.{key}": tensor for key, tensor in state.items()}, "prefix 'module.'"),
    ],
    ids=["state_dict", "model", "ema", "module."],
)
def test_wrapped_weights_are_found(wrap, note, tmp_path):
    model = varied(small("caformer_s18", "sail-sg/metaformer"))
    theirs, _ = LAYOUTS["sail-sg/metaformer"].export(model.state_dict(), model.config)
    torch.save(wrap(theirs), tmp_path / "x.pth")
    other = small("caformer_s18", "sail-sg/metaformer")
    report = load_weights(other, tmp_path / "x.pth")
    assert any(note in line for line in report.notes)
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize("in_chans", [1, 2, 4, 6])
def test_the_first_convolution_is_adapted(in_chans, tmp_path):
    model = varied(small("poolformer_s12"))
    export_weights(model, tmp_path / "x.pth", "timm")
    adapted = create_model(model.config, weights=tmp_path / "x.pth", in_chans=in_chans)
    old, new = (m.stages[0].patch_embed.conv.weight for m in (model, adapted))
    if in_chans == 1:
        torch.testing.assert_close(new, old.sum(dim=1, keepdim=True))
    else:
        expected = torch.stack([old[:, i % 3] for i in range(in_chans)], dim=1) * 3 / in_chans
        torch.testing.assert_close(new, expected)


def test_adaptation_and_new_classifier_are_reported(tmp_path):
    export_weights(small("poolformer_s12"), tmp_path / "x.pth", "sail-sg/poolformer")
    model = MetaFormer(replace(small("poolformer_s12").config, in_chans=1, num_classes=3))
    report = str(load_weights(model, tmp_path / "x.pth"))
    assert "sail-sg/poolformer" in report
    assert "resized stages.0.patch_embed.conv.weight  3 channels to 1" in report
    assert "classifier of 10 classes left out" in report


def test_loading_across_heads_is_noted_and_creating_follows_the_origin(tmp_path):
    export_weights(small("poolformer_s12", "timm"), tmp_path / "x.safetensors", "timm")
    config = small("poolformer_s12").config
    assert "timm computes its head otherwise" in str(load_weights(MetaFormer(config), tmp_path / "x.safetensors"))
    assert create_model(config, weights=tmp_path / "x.safetensors").config.head.norm_after_pooling


def test_exporting_across_heads_is_noted(tmp_path):
    notes = export_weights(small("poolformer_s12"), tmp_path / "x.safetensors", "timm")
    assert notes == ["timm computes its head otherwise from the same weights: expect slightly different scores there"]


def test_a_layout_without_a_place_for_a_part_refuses(tmp_path):
    with pytest.raises(ConfigError, match="huggingface has no place for stages"):
        export_weights(small("caformer_s18"), tmp_path / "x.pth", "huggingface")
    assert list(tmp_path.iterdir()) == []


def test_unknown_keys_name_the_layouts():
    with pytest.raises(ConfigError, match=r"have none of the layouts that are known \(metaformer, timm-vit"):
        recognise({"conv1.weight": 1}, "x.pth")


class Evil:
    """Would run code when an ordinary unpickler reads it."""

    def __reduce__(self):
        return (eval, ("1/0",))


def test_a_pickle_that_could_run_code_is_refused(tmp_path):
    torch.save({"state_dict": Evil()}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"refused .*x\.pth: it holds more than plain tensors"):
        read_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not a zip", b"\x80\x02garbage"], ids=repr)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
def test_damaged_files_are_one_line(content, suffix, tmp_path):
    file = tmp_path / f"x{suffix}"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*x\.") as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_one_line(tmp_path):
    export_weights(small("poolformer_s12"), tmp_path / "x.pth", "timm")
    whole = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="neither safetensors nor a whole PyTorch file"):
        read_weights(tmp_path / "x.pth")


def test_a_dict_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(DataError, match="holds no weights"):
        read_weights(tmp_path / "x.pth")


def test_content_decides_and_not_the_name(tmp_path):
    model = varied(small("poolformer_s12"))
    export_weights(model, tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").rename(tmp_path / "x.pth")
    assert read_weights(tmp_path / "x.pth").config == model.config


@pytest.mark.slow
@pytest.mark.parametrize("name", ["caformer_s18", "metaformer_ppaa_s12_224", "randformer_s12", "poolformer_m36"])
def test_the_zoo_name_is_found_from_the_weights(name, tmp_path):
    model = create_model(name)
    layout = "sail-sg/poolformer" if name.startswith(("poolformer_", "metaformer_")) else "sail-sg/metaformer"
    file = tmp_path / f"{name}.pth"
    export_weights(model, file, layout)
    assert identify(read_weights(file)) == name


def test_published_weights_are_listed_for_every_model_of_the_zoo():
    # Nobody published weights of MLP-Mixer S/16.
    assert set(PUBLISHED) == set(ZOO) - {"mixer_s16_224"}
    for name, rows in PUBLISHED.items():
        assert rows[0].url.startswith("https://")
        assert all(name in row.url for row in rows)
        assert all(72 < row.top1 < 89 for row in rows)
