"""A traced computation in as many digits as are asked for."""
