"""What tests of operators share."""

from collections.abc import Callable

import pytest
import torch

from metaformer.ops.native.library import NativeLibrary, library_or_reason


@pytest.fixture(scope="session")
def library() -> NativeLibrary:
    """The C++ operators; compiled by the first test on a machine."""
    found = library_or_reason()
    if isinstance(found, str):
        pytest.skip(f"no C++ operators here: {found}")
    return found


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """New tensors hold not-a-number until somebody writes to them."""
    empty, empty_like = torch.empty, torch.empty_like

    def nan_empty(*size, **options):
        return empty(*size, **options).fill_(float("nan"))

    monkeypatch.setattr(torch, "empty", nan_empty)
    monkeypatch.setattr(torch, "empty_like", lambda x, **options: empty_like(x, **options).fill_(float("nan")))


@pytest.fixture
def layouts() -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """The same features in other orders of memory: planes, channels together, a view with gaps."""

    def of(x):
        wide = x.new_full((x.shape[0], x.shape[1] + 1, x.shape[2], 2 * x.shape[3]), float("nan"))
        view = wide[:, 1:, :, ::2]
        view.copy_(x)
        return [x.contiguous(), x.contiguous(memory_format=torch.channels_last), view]

    return of
