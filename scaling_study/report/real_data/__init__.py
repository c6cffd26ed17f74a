"""Data sets that scikit-learn ships or generates: held-out scores by scaler."""
