"""The sensitivity of optimizers to the unit of a feature: leaderboard and learning-rate maps."""
