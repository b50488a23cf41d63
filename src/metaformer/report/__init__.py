"""Run records to tables, plots and one self-contained page. Reads nothing else."""
