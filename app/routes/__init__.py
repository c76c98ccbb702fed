"""One file per resource; knows HTTP and nothing else."""
