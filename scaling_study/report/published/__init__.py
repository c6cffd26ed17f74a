"""The report on published results: what was printed, what comes out here, and a verdict by rule."""
