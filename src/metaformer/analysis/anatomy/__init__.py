"""Where things are in any model: blocks and their parts, the axes of features, switches and recordings by hooks."""
