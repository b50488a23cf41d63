"""Measurements as data: a probe, a cost curve, a bench or a study hands one over, and the report draws it unseen.

A `Measurement` answers one question with panels of a few kinds. Whoever measures fills panels and knows no drawing
library; whoever draws knows the kinds of panels and nothing about what was measured.
"""

from metaformer.core.measurement.measurement import PANELS, Measurement, Panel
from metaformer.core.measurement.panels import (
    Axis,
    Curve,
    Curves,
    Heatmap,
    Histogram,
    Image,
    Images,
    Line,
    Mark,
    Numbers,
    Point,
    Points,
    Surface,
    Table,
    numbers,
)

__all__ = [
    "Axis",
    "Curve",
    "Curves",
    "Heatmap",
    "Histogram",
    "Image",
    "Images",
    "Line",
    "Mark",
    "Measurement",
    "Numbers",
    "PANELS",
    "Panel",
    "Point",
    "Points",
    "Surface",
    "Table",
    "numbers",
]
