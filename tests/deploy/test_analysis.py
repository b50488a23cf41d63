from metaformer.deploy.analysis import _short_names


def test_models_are_called_by_as_many_parts_as_tell_them_apart():
    assert _short_names(["runs/a/seed0", "timm/resnet18"]) == {"runs/a/seed0": "seed0", "timm/resnet18": "resnet18"}
    assert [*_short_names(["runs/q/pooling/seed0", "runs/q/identity/seed0/"]).values()] == [
        "pooling/seed0",
        "identity/seed0",
    ]
    assert _short_names([]) == {}
