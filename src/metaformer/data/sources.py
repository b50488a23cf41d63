"""The table of data sources."""

from collections.abc import Callable

from metaformer.core.registry import Registry
from metaformer.data.cluttered_digits import ClutteredDigits
from metaformer.data.digits import Digits
from metaformer.data.source import DataSource

DATA_SOURCES: Registry[Callable[[], DataSource]] = Registry(
    "data source",
    {
        "cluttered-digits": ClutteredDigits,
        "digits": Digits,
    },
)


def open_data(name: str) -> DataSource:
    """Opens a data source.

    Raises:
        ConfigError: The name is not in the table.
        MissingExtraError: A library that it needs is not installed.
    """
    return DATA_SOURCES[name]()
