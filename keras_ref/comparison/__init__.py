"""Two gradients with their errors become a verdict. The allowed difference is derived here and nowhere else."""
