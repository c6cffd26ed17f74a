"""What a study asks, and the data it means: NumPy only, in float64.

May import `errors` and `files` alone.
"""
