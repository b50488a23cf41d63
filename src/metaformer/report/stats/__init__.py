"""How sure a number is. Pure functions."""
