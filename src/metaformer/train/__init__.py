"""One flat loop, its checkpoints and its evaluation."""
