"""The report card of one token mixer: contract, accuracy beside known mixers, speed, memory, growth of cost."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from metaformer.block.token_mixers import AttentionConfig, DepthwiseConvConfig, PoolingConfig, TokenMixerConfig
from metaformer.core.errors import ConfigError
from metaformer.core.records import RUN_FILE, Card, Check, Variant, read_record
from metaformer.models.config import MetaFormerConfig
from metaformer.study.config import PlannedVariant, StudyConfig
from metaformer.study.load_mixer import NamedMixer
from metaformer.study.scaling_record import ScalingConfig
from metaformer.train.config import TrainConfig

ACCURACY = "study"  # folder of the accuracy study, inside that of the card
# Three resolutions that the card shows: the grids of the paper's stages 1 to 3; the others are for the exponent.
SHOWN_SIDES = (14, 28, 56)


@dataclass(frozen=True, kw_only=True)
class CardConfig:
    """What the card rests on."""

    base: MetaFormerConfig  # the model that every mixer is put into, in all stages
    head_dim: int  # of attention in that model
    data: str
    train: TrainConfig
    seeds: tuple[int, ...]
    scaling: ScalingConfig = field(default_factory=lambda: ScalingConfig(sides=(7, 10, 14, 20, 28, 40, 56)))

    def __post_init__(self) -> None:
        if not set(SHOWN_SIDES) <= set(self.scaling.sides):
            raise ConfigError(f"CardConfig.scaling.sides must hold {', '.join(map(str, SHOWN_SIDES))}.")


def references(head_dim: int) -> dict[str, TokenMixerConfig]:
    """The mixers that every card compares with."""
    return {
        "pooling": PoolingConfig(),
        "depthwise_conv": DepthwiseConvConfig(),
        "attention": AttentionConfig(head_dim=head_dim),
    }


def beside_references(mixer: NamedMixer, head_dim: int) -> NamedMixer:
    """The mixer under a name that no reference has, unless it is that reference."""
    if references(head_dim).get(mixer.name, mixer.config) == mixer.config:
        return mixer
    return replace(mixer, name=f"own_{mixer.name}")


def check_source(mixer: NamedMixer, folder: Path) -> None:
    """Makes sure that what a folder holds was measured with the file as it is now.

    Raises:
        ConfigError: The file was edited since.
    """
    if not (folder / ACCURACY / RUN_FILE).is_file():
        return
    held = read_record(folder / ACCURACY).name
    if held != study_name(mixer) and re.fullmatch(rf"card-{mixer.name}(-[0-9a-f]+)?", held):
        raise ConfigError(
            f"{folder} holds the card of {mixer.name} as it was before its file was edited. "
            "Choose another --out, or delete that folder."
        )


def study_name(mixer: NamedMixer) -> str:
    """What the accuracy study is called: after the mixer and the version of its file."""
    return "-".join(["card", mixer.name, *([mixer.source_sha256[:8]] if mixer.source_sha256 else [])])


def card_study(mixer: NamedMixer, config: CardConfig) -> StudyConfig:
    """The accuracy part: the mixer is the base, so that every reference is compared with it."""

    def row(name: str, title: str, change: str, one: TokenMixerConfig) -> PlannedVariant:
        model = replace(config.base, token_mixers=(one,) * config.base.num_stages)
        return PlannedVariant(about=Variant(name=name, title=title, change=change), model=model)

    rows = [row(mixer.name, mixer.title, "the mixer of this card", mixer.config)]
    rows += [
        row(name, name.replace("_", " ").capitalize(), "a known mixer in all stages", one)
        for name, one in references(config.head_dim).items()
        if name != mixer.name
    ]
    return StudyConfig(
        name=study_name(mixer),
        title=f"{mixer.title} beside known token mixers",
        question=f"How does {mixer.title} compare with known token mixers?",
        base=mixer.name,
        variants=tuple(rows),
        data=config.data,
        train=config.train,
        seeds=config.seeds,
    )


def card_result(mixer: NamedMixer, config: CardConfig, checks: Sequence[Check]) -> Card:
    """What the record of the card says itself; accuracy and cost have records of their own beside it."""
    return Card(
        title=mixer.title,
        source_sha256=mixer.source_sha256,
        checks=tuple(checks),
        shown_tokens=tuple(side * side for side in SHOWN_SIDES),
        dim=config.scaling.dim,
    )


def card_is_bad(checks: Sequence[Check]) -> bool:
    """Whether a promise is broken."""
    return any(check.status == "fail" for check in checks)


def default_folder(mixer: NamedMixer) -> Path:
    """Where a card goes if nobody says."""
    return Path("runs") / f"card-{mixer.name}"
