"""A measurement: one question, its answer in a sentence, and the panels that show it."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from metaformer.core.configs import register_table
from metaformer.core.measurement.panels import Curves, Heatmap, Histogram, Images, Points, Surface, Table
from metaformer.core.registry import Registry


@runtime_checkable
class Panel(Protocol):
    """Any kind of panel: one of the classes in `PANELS`."""

    @property
    def title(self) -> str: ...

    @property
    def caption(self) -> str: ...


PANELS: Registry[type] = Registry(
    "panel",
    {
        "curves": Curves,
        "points": Points,
        "heatmap": Heatmap,
        "surface": Surface,
        "histogram": Histogram,
        "images": Images,
        "table": Table,
    },
)
register_table(Panel, PANELS)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a probe, a cost curve, a bench or a study hands over."""

    name: str  # of its row in the table that it comes from, such as "rank_collapse"
    question: str  # as a reader would ask it
    finding: str  # one sentence, made from the numbers
    panels: tuple[Panel, ...]
    source: str = ""  # paper, section or equation of the definition, and where it is departed from
    numbers: dict[str, float] = field(default_factory=dict)  # what rules and tests read, such as a fitted rate; finite
