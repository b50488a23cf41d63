"""Records to tables, plots and self-contained pages. Reads nothing else."""
