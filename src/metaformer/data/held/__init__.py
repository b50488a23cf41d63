"""How a set of images is held: in memory, read by index, or streamed."""
