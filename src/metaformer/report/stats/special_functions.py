"""scipy's distributions and special functions, which an extra brings."""

from metaformer.core.errors import MissingExtraError

try:
    from scipy import special
except ImportError:
    raise MissingExtraError(need="the HTML page", extra="report") from None

__all__ = ["special"]
