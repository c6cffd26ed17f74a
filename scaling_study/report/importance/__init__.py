"""The report on feature attributions: how far they are from the truth, and what changes them."""
