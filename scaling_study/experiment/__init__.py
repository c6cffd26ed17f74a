"""What is asked, and what data it means: NumPy only, in float64."""
