"""What the runs mean: statistics, theory and claims, with pandas and SciPy.

May import `study` and `storage`; never JAX.
"""
