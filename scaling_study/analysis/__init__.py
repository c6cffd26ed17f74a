"""What the runs mean: pandas and SciPy, never JAX, so that a report rebuilds from files."""
