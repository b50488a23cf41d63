"""The table of data that come with the package."""

from collections.abc import Callable

from metaformer.core.registry import Registry
from metaformer.data.formats.cluttered_digits import ClutteredDigits
from metaformer.data.formats.digits import Digits
from metaformer.data.source import DataSource

DATA_SOURCES: Registry[Callable[[], DataSource]] = Registry(
    "data source",
    {
        "cluttered-digits": ClutteredDigits,
        "digits": Digits,
    },
)
