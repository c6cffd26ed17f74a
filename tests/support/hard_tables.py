"""Problems whose columns lose digits in careless hands: named `hard_tables:name` in studies."""

import numpy as np
import statsmodels.api as sm
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import StandardScaler

from scaling_study import Problem


def table(x, y, classes: int = 0, feature: int = 0) -> Problem:
    """Return a problem of these rows, whatever the seed."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    features = x.shape[1]
    return Problem(
        lambda seed: (x, y),
        np.full(features, np.nan),
        np.ones(features),
        scaled_feature=feature,
        signal=lambda u: np.zeros(u.shape[:-1]),
        classes=classes,
    )


def year(mean: float = 1954.5) -> Problem:
    """Return total employment by year, 1947 to 1962 (Longley 1967), the years moved to a mean."""
    data = sm.datasets.longley.load_pandas()
    return table(data.exog[["YEAR"]] - 1954.5 + mean, data.endog)


def longley() -> Problem:
    """Return total employment by six nearly collinear columns (Longley 1967)."""
    data = sm.datasets.longley.load_pandas()
    return table(data.exog, data.endog)


def spector() -> Problem:
    """Return whether 32 grades improved, by three columns (Spector and Mazzeo 1980)."""
    data = sm.datasets.spector.load_pandas()
    return table(data.exog, data.endog, classes=2)


def eleven() -> Problem:
    """Return eleven columns in units of their own, of which the last four are 0 or 1."""
    random = np.random.default_rng(8)
    x = random.standard_normal((40, 11)) * 10.0 ** np.arange(11)
    x[:, 7:] = x[:, 7:] > 0
    return table(x, x[:, 0] + 2 * x[:, 9] + 0.1 * random.standard_normal(40))


# An object, as a user has it; the first columns go last.
some_scaled = ColumnTransformer(
    [("b", "passthrough", [7, 8, 9, 10]), ("n", StandardScaler(), [0, 1, 2, 3, 4, 5, 6])]
)


def rescaled(mean: float = 0.0, unit: float = 1.0, target_mean: float = 0.0) -> Problem:
    """Return two columns, one in another unit with a mean of so many deviations."""
    random = np.random.default_rng(5)
    u = random.standard_normal((40, 2))
    y = u @ [1.0, -2.0] + 0.3 * random.standard_normal(40)
    return table(u * [1.0, unit] + [0.0, mean * unit], y + target_mean, feature=1)


def collinear(correlation: float = 0.9999) -> Problem:
    """Return two columns of this correlation, in the sample, and a third."""
    random = np.random.default_rng(6)
    q = np.linalg.qr(random.standard_normal((40, 3)) - 0.0)[0]
    q = np.linalg.qr(q - q.mean(axis=0))[0] * 40**0.5
    q[:, 1] = correlation * q[:, 0] + (1 - correlation**2) ** 0.5 * q[:, 1]
    y = q @ [1.0, 0.5, -1.0] + 0.3 * random.standard_normal(40)
    return table(q, y, feature=1)


def constant(value: float = 1e9) -> Problem:
    """Return a useful column and a constant one."""
    random = np.random.default_rng(7)
    u = random.standard_normal(40)
    y = u + 0.3 * random.standard_normal(40)
    return table(np.column_stack([u, np.full(40, value)]), y, feature=1)
