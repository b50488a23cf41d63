"""One base, one thing varied, several seeds."""
