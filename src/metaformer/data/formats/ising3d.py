"""The Ising model on a cubic lattice, to be told apart below and above its critical temperature.

A task of three axes with a known answer, and one that gets harder towards the critical temperature. Lattices are drawn
by cluster updates, which stay quick there. All clusters of a lattice are found at once and each flipped with
probability 1/2 (Swendsen and Wang, 1987), for many lattices side by side; Wolff's single clusters (1989) are the same
bonds, and would have to be grown one after the other.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metaformer.core.seeding import generator
from metaformer.data.held.arrays import Arrays

# In units of J/k: 1 / 0.22165463, Ferrenberg, Xu and Landau, Phys. Rev. E 97, 043301 (2018).
CRITICAL_TEMPERATURE = 4.5115
SIDE, NUM_SWEEPS = 8, 40
NUM_TRAIN, NUM_TEST = 1000, 500
LOWEST, HIGHEST = 3.5, 5.5

Lattices = Float[Tensor, "n side side side"]


def open_ising3d() -> Arrays:
    """1,000 lattices for training and 500 for the test, at temperatures drawn evenly from 3.5 to 5.5 J/k."""
    random = generator("ising3d")
    temperatures = LOWEST + (HIGHEST - LOWEST) * torch.rand(NUM_TRAIN + NUM_TEST, generator=random)
    lattices = sample_lattices(temperatures, SIDE, NUM_SWEEPS, random)[:, None]
    labels = (temperatures > CRITICAL_TEMPERATURE).long()
    return Arrays(
        (lattices[:NUM_TRAIN], labels[:NUM_TRAIN]),
        (lattices[NUM_TRAIN:], labels[NUM_TRAIN:]),
        name="ising3d",
        title="Ising model on a cubic lattice",
        description=(
            f"{SIDE}x{SIDE}x{SIDE} spins of the Ising model with periodic borders, at temperatures from {LOWEST} to "
            f"{HIGHEST} J/k. The label says whether that is above the critical temperature, {CRITICAL_TEMPERATURE}."
        ),
        class_names=("below", "above"),
    )


def sample_lattices(temperatures: Float[Tensor, " n"], side: int, num_sweeps: int, random: torch.Generator) -> Lattices:
    """One lattice of spins, -1 or 1, for each temperature in J/k: from all spins up, after cluster updates."""
    spins = torch.ones(len(temperatures), side, side, side)
    # Parallel neighbours are bound with probability 1 - exp(-2J/kT).
    bound = (1 - torch.exp(-2 / temperatures)).view(-1, 1, 1, 1)
    for _ in range(num_sweeps):
        bonds = [
            (spins == spins.roll(-1, axis)) & (torch.rand(spins.shape, generator=random) < bound)
            for axis in range(1, 4)
        ]
        clusters = _clusters(bonds)
        # One coin for each site; a cluster takes that of the site it is named after.
        coins = torch.randint(0, 2, spins.shape, generator=random).flatten(1)
        flipped = coins.gather(1, clusters.flatten(1)).view(spins.shape)
        spins = spins * (1 - 2 * flipped)
    return spins


def _clusters(bonds: list[Bool[Tensor, "n s s s"]]) -> Tensor:
    """The smallest number of a site among those that bonds connect, for each site."""
    shape = bonds[0].shape
    names = torch.arange(bonds[0][0].numel()).view(1, *shape[1:]).expand(shape).contiguous()
    while True:
        before = names
        for axis, bond in enumerate(bonds, start=1):
            ahead = torch.where(bond, names.roll(-1, axis), names)
            names = torch.minimum(names, ahead)
            behind = torch.where(bond.roll(1, axis), names.roll(1, axis), names)
            names = torch.minimum(names, behind)
        # Sites learn their name's own name: chains shorten by half.
        names = names.flatten(1).gather(1, names.flatten(1)).view(shape)
        if torch.equal(names, before):
            return names


def magnetisation(spins: Lattices) -> Float[Tensor, " n"]:
    """The absolute mean spin of each lattice."""
    return spins.flatten(1).mean(dim=1).abs()


def energy(spins: Lattices) -> Float[Tensor, " n"]:
    """Per spin, in units of J."""
    return -sum((spins * spins.roll(-1, axis) for axis in range(1, 4)), torch.zeros_like(spins)).flatten(1).mean(dim=1)
