"""A table whose columns are what a diagnosis must name: millions, an offset, junk, a category."""

import numpy as np
import pandas as pd

ROWS = 160


def houses(*, standardised: bool = False) -> pd.DataFrame:
    """Return a table of a price, linear in three columns and a category.

    ``standardised`` leaves only columns of mean 0 and deviation 1.
    """
    random = np.random.default_rng(5)
    z = random.standard_normal((ROWS, 4))
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    heating = random.choice(["gas", "oil", "wood"], ROWS)
    price = z[:, 0] + z[:, 1] + 0.5 * z[:, 2] + 0.1 * random.standard_normal(ROWS)
    frame = pd.DataFrame(z, columns=["area", "income", "year", "junk"])
    if standardised:
        return frame.assign(price=price)
    return frame.assign(
        income=3e6 + 1e6 * z[:, 1],  # in the millions
        year=1e6 + z[:, 2],  # an offset of a million deviations
        junk=1e-3 * z[:, 3],
        heating=heating,
        price=price + 0.5 * (heating == "gas"),
    )
