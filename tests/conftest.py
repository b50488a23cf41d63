"""What many tests share: seeds, small models of every kind, a Python process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import torch

from metaformer.block.site import Site
from metaformer.block.token_mixers import TOKEN_MIXERS, AttentionConfig, WindowAttentionConfig
from metaformer.core.records import History, Recorder, Training
from metaformer.models.config import MetaFormerConfig
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import ZOO

# Busy machines make examples slow, and a test that fails must fail again.
hypothesis.settings.register_profile("metaformer", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("metaformer")

# A suite that a shell started in the background has Ctrl-C ignored, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def no_shape_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches the shape hook off: torch.fx calls modules with proxies, which are no tensors and have no shape."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def make_training(tmp_path: Path) -> Callable[..., Path]:
    """Writes the record of a finished training, without training anything, and returns its folder."""

    def make(folder: str, name: str = "pooling <3>", *, lr: float = 0.1) -> Path:
        settings = {"name": name, "train": {"lr": lr, "epochs": 3}}
        command = f"metaformer train cifar10-small --out {folder}"
        recorder = Recorder(Training, name=name, config=settings, command=command, seed=0)
        recorder.result = Training(
            test_accuracy_percent=81.25,
            test_loss=0.5,
            validation_accuracy_percent=80.5,
            train_loss=1.0,
            images_per_second=100.0,
            train_time_s=180.0,
            peak_memory_mib=512.0,
            best_epoch=3,
            kept_epoch=3,
            history=History(
                epoch=(1, 2, 3),
                seconds=(60.0, 120.0, 180.0),
                validation_accuracy_percent=(40.0, 60.0, 80.5),
                validation_loss=(2.1, 1.6, 1.1),
                train_loss=(2.0, 1.5, 1.0),
                learning_rate=(0.1, 0.05, 0.0),
                images_per_second=(100.0, 100.0, 100.0),
            ),
        )
        recorder.finish().write(tmp_path / folder)
        return tmp_path / folder

    return make


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Runs code in a process of its own and returns what it printed, errors included."""

    def run(code: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.fixture
def session() -> Callable[[int], list[str]]:
    """The processes of a session that still run, by its leader."""

    def of(leader: int) -> list[str]:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = stat.read_text().rpartition(")")
            except OSError:
                continue
            state, _parent, _group, session_id = rest.split()[:4]
            if int(session_id) == leader and state != "Z":
                found.append(name)
        return found

    return of


def small_mixer(config: object) -> object:
    """A mixer that fits few channels."""
    return replace(config, head_dim=8) if isinstance(config, AttentionConfig | WindowAttentionConfig) else config


def reduced(config: MetaFormerConfig) -> MetaFormerConfig:
    """A model of the same kind that runs in milliseconds: one block a stage, an eighth of the channels.

    LayerScale starts at 0.5: at 1e-5 no test could see what a block does.
    """
    return replace(
        config,
        dims=(8, 16, 40, 64)[: config.num_stages],
        depths=(1,) * config.num_stages,
        token_mixers=tuple(small_mixer(mixer) for mixer in config.token_mixers),
        residuals=tuple(
            replace(residual, layer_scale_init=residual.layer_scale_init and 0.5) for residual in config.residuals
        ),
        image_size=(64, 64),
        num_classes=10,
    )


SMALL = reduced(ZOO["poolformer_s12"])
ALL_OF_ONE_MIXER = {
    f"only_{name}": replace(SMALL, token_mixers=(small_mixer(mixer()),) * 4) for name, mixer in TOKEN_MIXERS.items()
}
# Models that differ in size alone are the same model once reduced: tested once, under all their names.
NAMES_OF: dict[MetaFormerConfig, list[str]] = {}
for _name, _config in ({name: reduced(config) for name, config in ZOO.items()} | ALL_OF_ONE_MIXER).items():
    NAMES_OF.setdefault(_config, []).append(_name)


@pytest.fixture
def small() -> MetaFormerConfig:
    """A small PoolFormer for images of 64 pixels."""
    return SMALL


@pytest.fixture(params=NAMES_OF, ids=[names[0] for names in NAMES_OF.values()])
def any_config(request: pytest.FixtureRequest) -> MetaFormerConfig:
    """Every model of the zoo and every token mixer in all stages, small."""
    return request.param


@pytest.fixture
def any_model(any_config: MetaFormerConfig) -> MetaFormer:
    """A model in evaluation mode, whose position embeddings are not zero, for `images`."""
    model = MetaFormer(any_config).eval()
    for name, parameter in model.named_parameters():
        if "position_embed" in name:
            torch.nn.init.normal_(parameter)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=list(TOKEN_MIXERS))
def mixer_config(request: pytest.FixtureRequest) -> object:
    """Every token mixer, for the sites of `site_of`."""
    return small_mixer(TOKEN_MIXERS[request.param]())


@pytest.fixture(params=[(7, 7), (5, 9), (1, 4)], ids=["odd", "oblong", "thin"])
def site(request: pytest.FixtureRequest) -> Site:
    """Awkward grids of 16 channels."""
    return Site(dim=16, grid=request.param, stage=2, index=3)


@pytest.fixture
def own_token_mixer_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that the test adds to TOKEN_MIXERS are gone afterwards."""
    monkeypatch.setattr(TOKEN_MIXERS, "_entries", dict(TOKEN_MIXERS._entries))
