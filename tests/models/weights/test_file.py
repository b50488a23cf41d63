import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from metaformer.block.token_mixers import AttentionConfig
from metaformer.core.configs import to_dict
from metaformer.core.errors import DataError
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import CONFIG_KEY, WEIGHTS_FILE, read_weights, save_weights


@pytest.fixture
def model(small):
    return MetaFormer(small)


@pytest.fixture
def file(model, tmp_path):
    save_weights(model, tmp_path / WEIGHTS_FILE, class_names=("cat", "dog"))
    return tmp_path / WEIGHTS_FILE


def test_weights_config_and_class_names_come_back(any_model, tmp_path):
    save_weights(any_model, tmp_path / "a.safetensors", class_names=("cat", "dog"))
    weights = read_weights(tmp_path / "a.safetensors")
    torch.testing.assert_close(weights.state, dict(any_model.state_dict()), rtol=0, atol=0)
    assert weights.config == any_model.config
    assert weights.class_names == ("cat", "dog")


def test_a_run_folder_stands_for_its_file(file):
    from_folder, from_file = read_weights(file.parent), read_weights(file)
    torch.testing.assert_close(from_folder.state, from_file.state, rtol=0, atol=0)
    assert from_folder.class_names == ("cat", "dog")


def test_weights_may_be_in_any_memory_format(model, tmp_path):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_weights(model.to(memory_format=torch.channels_last), tmp_path / "a.safetensors")
    torch.testing.assert_close(read_weights(tmp_path / "a.safetensors").state, state, rtol=0, atol=0)


def test_a_file_of_other_origin_has_no_config(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    weights = read_weights(tmp_path / "a.safetensors")
    assert (weights.config, weights.class_names, list(weights.state)) == (None, (), ["a"])


def test_saving_leaves_one_file(file):
    assert list(file.parent.iterdir()) == [file]


def test_a_failed_save_leaves_the_old_file(model, file, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr("metaformer.models.weights.file.json.dumps", lambda *_args, **_options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_weights(model, file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def cut(content):
    return content[: len(content) // 2]


def without_last_byte(content):
    return content[:-1]


def header_only(content):
    return content[:8]


def empty(_content):
    return b""


def garbage(_content):
    return bytes(range(256)) * 40


def huge_header(content):
    return b"\xff" * 8 + content[8:]


@pytest.mark.parametrize("damage", [cut, without_last_byte, header_only, empty, garbage, huge_header])
def test_a_damaged_file_is_a_data_error(file, damage):
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"^cannot read .*model\.safetensors as safetensors: "):
        read_weights(file)


def test_a_pickle_is_a_data_error(model, file):
    torch.save(model.state_dict(), file)
    with pytest.raises(DataError, match="as safetensors"):
        read_weights(file)


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"^no weights at .*nothing\.safetensors: there is no such file\.$"):
        read_weights(tmp_path / "nothing.safetensors")


BAD_METADATA = {
    "no json": "{",
    "a number": "5",
    "a list": "[]",
    "text": '"pooling"',
    "no fields": "{}",
    "unknown field": '{"dim": 3}',
    "nested too deep": "[" * 100_000,
}


# Without the shape hook, which would refuse what is no object first.
@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("metadata", BAD_METADATA.values(), ids=BAD_METADATA)
def test_a_bad_config_is_a_data_error(tmp_path, metadata):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={CONFIG_KEY: metadata})
    with pytest.raises(DataError, match=r"^the config inside .*a\.safetensors cannot be read: "):
        read_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize("class_names", ["{", "5", "null"])
def test_bad_class_names_are_a_data_error(tmp_path, class_names):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"class_names": class_names})
    with pytest.raises(DataError, match=r"^the config inside "):
        read_weights(tmp_path / "a.safetensors")


def test_a_config_of_a_later_version_names_the_field(small, tmp_path):
    stored = json.dumps(to_dict(small) | {"new_field": 1})
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={CONFIG_KEY: stored})
    with pytest.raises(DataError, match=r"MetaFormerConfig has no field 'new_field'\."):
        read_weights(tmp_path / "a.safetensors")


def test_options_of_the_mixers_are_stored(small, tmp_path):
    config = replace(small, token_mixers=(AttentionConfig(head_dim=4, qkv_bias=True),) * 4)
    save_weights(MetaFormer(config), tmp_path / "a.safetensors")
    assert read_weights(tmp_path / "a.safetensors").config == config
