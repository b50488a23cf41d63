"""What a study is: a base, what varies, seeds, and the one recipe for all."""

from dataclasses import dataclass, field, replace

from metaformer.core.errors import ConfigError, unknown
from metaformer.core.records import Variant
from metaformer.data.preparation import Preparation
from metaformer.models.timm_model import ModelConfig
from metaformer.train.config import TrainConfig

MAX_SEEDS = 1000


@dataclass(frozen=True, kw_only=True)
class PlannedVariant:
    """One row of a study, and what is trained for it."""

    about: Variant
    model: ModelConfig
    train: TrainConfig | None = None  # its own recipe; None: the study's
    # The cost to have in common with the base whatever is asked of the other rows: macs, params or "" (none).
    match: str = ""

    @property
    def name(self) -> str:
        return self.about.name


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Variants trained under equal conditions: same data, recipe, seeds and order of batches."""

    name: str
    title: str
    question: str
    base: str  # the variant that the others are compared with
    variants: tuple[PlannedVariant, ...]
    data: str  # name of a data source
    preparation: Preparation = field(default_factory=Preparation)
    train: TrainConfig
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ConfigError(f"StudyConfig.variants must have different names; got {', '.join(names)}.")
        if not self.variants:
            raise ConfigError("StudyConfig.variants must name at least one variant.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(
                "StudyConfig.seeds must be different whole numbers from 0 up, at least one; "
                f"got {', '.join(map(str, self.seeds)) or 'none'}."
            )

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the variants that are there to fail: that one of them diverges is its result."""
        return tuple(variant.name for variant in self.variants if variant.about.control)


def choose_variants(config: StudyConfig, names: tuple[str, ...]) -> tuple[PlannedVariant, ...]:
    """The variants of these names, in the study's order.

    Raises:
        ConfigError: The study has no variant of a name.
    """
    known = {variant.name: variant for variant in config.variants}
    for name in names:
        if name not in known:
            raise unknown("variant", name, known)
    return tuple(variant for name, variant in known.items() if name in names)


def with_epochs(train: TrainConfig, epochs: int) -> TrainConfig:
    """The recipe with another number of epochs, of which warm-up and cooldown keep their shares."""
    share = epochs / train.epochs
    return replace(
        train,
        epochs=epochs,
        warmup_epochs=None if train.warmup_epochs is None else train.warmup_epochs * share,
        cooldown_epochs=train.cooldown_epochs * share,
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads `3` as seeds 0, 1, 2, and `0,7,9` as those.

    Raises:
        ConfigError: The text is neither.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if "," not in text and numbers and 1 <= numbers[0] <= MAX_SEEDS:
        return tuple(range(numbers[0]))
    if "," in text and numbers and min(numbers) >= 0 and len(set(numbers)) == len(numbers):
        return numbers
    raise ConfigError(
        f"seeds must be a number of seeds from 1 to {MAX_SEEDS}, or different seeds with commas between; got {text!r}. "
        "Try 3, or 0,1,2."
    )
