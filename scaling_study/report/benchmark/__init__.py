"""The benchmark of optimizers: sensitivity to the unit of a feature, over many problems."""
