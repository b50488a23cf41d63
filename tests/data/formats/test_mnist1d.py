import numpy as np
import pytest
import torch

from metaformer.data.sources import open_data


def test_the_authors_signals_and_nothing_seeded():
    pytest.importorskip("mnist1d", reason="the extra 'signals' is not installed")
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    facts = open_data("mnist1d").facts
    assert (facts.in_chans, facts.image_size, len(facts.class_names)) == (1, (40,), 10)
    assert (facts.num_train, facts.num_validation, facts.num_test) == (3600, 400, 1000)
    assert np.random.rand() == expected
    assert torch.equal(torch.get_rng_state(), state)
