"""The rounding error of a traced computation, by Monte Carlo arithmetic."""
