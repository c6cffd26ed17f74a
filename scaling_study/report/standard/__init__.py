"""The report of a study that names no other: every condition, its runs and its weights."""
