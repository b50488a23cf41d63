"""Randomness by key: the same words and numbers give the same numbers, in any process and order."""

import hashlib

import torch


def key_seed(*key: int | str) -> int:
    """A 63-bit seed that belongs to the key.

    Unlike `hash()` it is the same in every process; unlike `seed + epoch` two keys never share a stream.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*key: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A random generator that belongs to the key."""
    return torch.Generator(device=device).manual_seed(key_seed(*key))
