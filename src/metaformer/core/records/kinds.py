"""Every kind of record: its name in a file, and the class of its result."""

from metaformer.core.records.analysis import Analysis
from metaformer.core.records.speed import Bench, Trial
from metaformer.core.records.study import Card, Scaling, Speed, Study, Tuning
from metaformer.core.records.training import Evaluation, Training
from metaformer.core.registry import Registry

# A room that brings a kind of its own adds it where that class is defined.
RECORDS: Registry[type] = Registry(
    "kind of record",
    {
        "training": Training,
        "evaluation": Evaluation,
        "study": Study,
        "speed": Speed,
        "scaling": Scaling,
        "tuning": Tuning,
        "card": Card,
        "bench": Bench,
        "trial": Trial,
        "analysis": Analysis,
    },
)
