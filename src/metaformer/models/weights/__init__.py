"""Weights files: opened wherever they are and whoever wrote them, and written."""

from metaformer.models.weights.file import (
    CLASSES_KEY,
    CONFIG_KEY,
    WEIGHTS_FILE,
    Weights,
    read_weights,
    save_weights,
    write_tensors,
)

__all__ = ["CLASSES_KEY", "CONFIG_KEY", "WEIGHTS_FILE", "Weights", "read_weights", "save_weights", "write_tensors"]
