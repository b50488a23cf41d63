"""Functions that return configs; each docstring gives the command, the hardware, the time and the result to expect."""
