"""Our C++ operators: sources, how they are built and found, and how weights are laid out for them."""
