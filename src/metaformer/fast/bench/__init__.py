"""Our models beside their peers, in one interleaved run: correctness first, then medians, spread and ratios."""
