"""Images at addresses of the web."""

import time
import urllib.error
import urllib.request
from dataclasses import dataclass

STARTS = ("http://", "https://")
WAIT_S = 30.0  # without a byte
MAX_S = 120.0  # for one image
BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class ImageUrl:
    """The address of an image, http or https."""

    address: str


def is_image_url(word: str) -> bool:
    """Whether a word is an address that can be downloaded."""
    return word.lower().startswith(STARTS)


def download(url: ImageUrl, *, most: int) -> bytes:
    """What an address holds; no more than one byte above the limit is kept.

    Args:
        url: Where.
        most: Bytes.

    Raises:
        OSError: It cannot be had, or not in time.
        ValueError: It is no address.
    """
    # Some servers answer no program that does not say what it is.
    request = urllib.request.Request(url.address, headers={"User-Agent": "metaformer"})
    until, content = time.monotonic() + MAX_S, bytearray()
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            while len(content) <= most and (block := answer.read1(BLOCK_BYTES)):
                content += block
                if time.monotonic() > until:
                    raise TimeoutError(f"more than {MAX_S:g} s")
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"the download failed: {error}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise OSError(f"the download failed: {getattr(reason, 'strerror', None) or reason}") from None
    return bytes(content)
