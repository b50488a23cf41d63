"""Against the literature: magnetisation below the critical temperature, energy above it."""

import math

import torch

from metaformer.data.formats.ising3d import CRITICAL_TEMPERATURE, energy, magnetisation, sample_lattices


def test_magnetisation_below_the_critical_temperature_is_that_of_large_simulations():
    temperature = 3.8
    spins = sample_lattices(torch.full((64,), temperature), 10, 30, torch.Generator().manual_seed(0))
    # Talapov and Bloete, J. Phys. A 29, 5727 (1996), Eq. 10.
    t = 1 - temperature / CRITICAL_TEMPERATURE
    expected = t**0.32694109 * (1.6919045 - 0.34357731 * t**0.50842026 - 0.42572366 * t)
    assert abs(float(magnetisation(spins).mean()) - expected) < 0.01


def test_energy_at_high_temperature_is_that_of_the_series():
    temperature = 8.0
    spins = sample_lattices(torch.full((128,), temperature), 10, 30, torch.Generator().manual_seed(0))
    # Guttmann and Enting, J. Phys. A 26, 807 (1993): ln Z / N = ln 2 + 3 ln cosh K + 3 v^4 + 22 v^6 + 187.5 v^8 + ...
    v = math.tanh(1 / temperature)
    expected = -(3 * v + (12 * v**3 + 132 * v**5 + 1500 * v**7) * (1 - v**2))
    assert abs(float(energy(spins).mean()) - expected) < 0.01


def test_the_seed_decides_the_lattices():
    twice = [sample_lattices(torch.full((2,), 4.5), 4, 3, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*twice)
    assert set(twice[0].unique().tolist()) <= {-1.0, 1.0}
