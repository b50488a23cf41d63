"""A few images of the data, for the report."""

import io
from base64 import b64encode

import torch
import torch.nn.functional as F

from metaformer.data.source import DataSource

NUM_SAMPLES = 24
SIDE_PX = 64  # of a sample in the picture, about


def samples_png(data: DataSource) -> str:
    """Validation images in two rows, in colour where they have any, as base64 of a PNG."""
    from PIL import Image

    images, _ = next(data.evaluation_batches("validation", batch_size=NUM_SAMPLES))
    if images.shape[1] == 3:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (data.facts.mean, data.facts.std))
        shown = (images * std + mean).clamp(0, 1)
    else:
        grey = images.mean(dim=1, keepdim=True)
        shown = (grey - grey.amin()) / (grey.amax() - grey.amin()).clamp(min=1e-6)
    framed = F.pad(shown, (1, 1, 1, 1), value=0.5)
    rows = framed[: len(framed) - len(framed) % 2].unflatten(0, (2, -1)) if len(framed) > 1 else framed[None]
    picture = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    pixels = (picture * 255).byte().permute(1, 2, 0).numpy()
    drawn = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    factor = max(1, round(SIDE_PX / images.shape[-1]))
    enlarged = drawn.resize((factor * drawn.width, factor * drawn.height), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    enlarged.save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode()
