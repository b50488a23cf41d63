"""One flat loop, its checkpoints and its evaluation; called as `metaformer.train(...)`, the function of that name."""

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """Importing a subpackage puts it where the package has the function of its name, so that it must do for both."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Trains one model: `metaformer.train.run.train`, which says what it takes and refuses the rest."""
        from metaformer.train.run import train

        return train(*args, **options)


sys.modules[__name__].__class__ = _CallableModule
