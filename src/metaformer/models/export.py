"""Our weights, for the repositories that others use."""

from pathlib import Path

import torch

from metaformer.core.atomic_write import atomic_path, refusing_unwritable
from metaformer.core.errors import ConfigError
from metaformer.models.layouts import LAYOUTS
from metaformer.models.metaformer import MetaFormer
from metaformer.models.weights import save_weights, write_tensors

PICKLED = (".pth", ".pt", ".bin", ".tar")


def export_weights(
    model: MetaFormer, path: Path, layout_name: str = "metaformer", *, class_names: tuple[str, ...] = ()
) -> list[str]:
    """Writes the model's weights under the names and in the shapes of a layout.

    Args:
        model: Whose weights.
        path: A `.safetensors` file, or `.pth`, `.pt`, `.bin`, `.pth.tar` for PyTorch's format.
        layout_name: A name in LAYOUTS; ours carries the config too.
        class_names: Kept in our own layout.

    Returns:
        Notes on where the model over there computes something else from these weights.

    Raises:
        ConfigError: The layout is unknown, or has no place for a part of this model.
        DataError: The file cannot be written.
    """
    layout = LAYOUTS[layout_name]
    theirs, left_out = layout.export(model.state_dict(), model.config)
    if left_out:
        raise ConfigError(
            f"{layout.name} has no place for {', '.join(left_out[:3])}"
            f"{f' and {len(left_out) - 3} more' if len(left_out) > 3 else ''}: it does not know this kind of model."
        )
    pickled = path.suffix in PICKLED
    with refusing_unwritable(path):
        if layout.name == "metaformer" and not pickled:
            save_weights(model, path, class_names=class_names)
        elif pickled:
            # Into an open file: by a path, the archive would hold the temporary name, and differ every time.
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                torch.save({key: tensor.detach().cpu().contiguous().clone() for key, tensor in theirs.items()}, file)
        else:
            write_tensors(theirs, path, {"format": "pt"})
    if layout.head(model.config.head) == model.config.head:
        return []
    return [f"{layout.name} computes its head otherwise from the same weights: expect slightly different scores there"]
