"""The picture of sample images that a study may carry."""

import base64
import binascii

from metaformer.report.study.load import LoadedStudy

PNG = b"\x89PNG\r\n\x1a\n"


def sample_picture(study: LoadedStudy) -> str | None:
    """The sample picture as a data: address, or None where there is none or it is no PNG."""
    encoded = study.about.samples_png
    if encoded is None:
        return None
    try:
        picture = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return f"data:image/png;base64,{encoded}" if picture.startswith(PNG) else None
