"""The columns of a table as a network meets them: units, offsets, outliers, and conditioning.

With z the training inputs, gradient descent on a linear model with a bias has the Hessian
``2 mean([z, 1] [z, 1]ᵀ)``. Its condition number κ is the ratio of its extreme eigenvalues: the
number of updates that gradient descent needs grows in proportion to it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from scaling_study.analysis.theory import spectrum
from scaling_study.study import scalers

Array = NDArray[np.float64]
UNIT = 100.0  # ratio of a standard deviation to the columns' median one, which is worth naming
OFFSET = 100.0  # |mean| in standard deviations: two of float32's seven digits
SKEW = 2.0  # of a column's distribution; an exponential one has 2
FENCE = 3.0  # interquartile ranges beyond the quartiles: Tukey's far-out values
OUTLIERS = 0.01  # share of rows beyond the fence
COLLINEAR = 0.99  # |correlation| with another column


def column_table(x: ArrayLike, names: Sequence[str]) -> pd.DataFrame:
    """Return what each column holds.

    Parameters
    ----------
    x : array-like of shape (n_samples, n_features)
    names : sequence of str

    Returns
    -------
    DataFrame
        ``feature, minimum, maximum, mean, sd, skew``; ``unit``, sd over the columns' median sd;
        ``offset``, abs(mean) over sd; ``outliers``, share of rows beyond `FENCE`;
        ``correlated_with`` and ``correlation``, of the column with the largest one;
        ``digits_lost``, the decimal digits of float32 that an offset takes from the variation;
        ``remarks``, what is worth naming.
    """
    x = np.asarray(x, np.float64)
    sd, mean = x.std(axis=0), x.mean(axis=0)
    safe = np.where(sd > 0, sd, 1.0)
    middle = np.exp(np.median(np.log(safe)))
    quartiles = np.percentile(x, [25, 75], axis=0)
    reach = FENCE * (quartiles[1] - quartiles[0])
    beyond = (x < quartiles[0] - reach) | (x > quartiles[1] + reach)
    partner, correlation = _nearest((x - mean) / safe)
    frame = pd.DataFrame(
        {
            "feature": list(names),
            "minimum": x.min(axis=0),
            "maximum": x.max(axis=0),
            "mean": mean,
            "sd": sd,
            "unit": safe / middle,
            "offset": np.abs(mean) / safe,
            "skew": ((x - mean) ** 3).mean(axis=0) / safe**3,
            "outliers": np.where(reach > 0, beyond.mean(axis=0), 0.0),
            "correlated_with": [names[j] for j in partner],
            "correlation": correlation,
            "digits_lost": np.maximum(
                0, np.log10(np.maximum(np.abs(x).max(axis=0), 1e-300) / safe)
            ),
        }
    )
    binary = ((x == 0) | (x == 1)).all(axis=0)
    return frame.assign(
        remarks=[_remarks(*pair) for pair in zip(frame.to_dict("records"), binary, strict=True)]
    )


def _nearest(z: Array) -> tuple[NDArray[np.intp], Array]:
    if z.shape[1] == 1:
        return np.zeros(1, np.intp), np.zeros(1)
    found = z.T @ z / len(z)
    np.fill_diagonal(found, 0)
    partner = np.abs(found).argmax(axis=0)
    return partner, found[np.arange(len(partner)), partner]


def _remarks(row: Mapping[Any, Any], binary: bool) -> str:
    """Return what is worth naming of a column, after a comma each."""
    if binary:
        return ""
    found = []
    if row["unit"] >= UNIT:
        found.append(f"numbers {row['unit']:,.0f} times as large as usual")
    if row["unit"] <= 1 / UNIT:
        found.append(f"numbers {1 / row['unit']:,.0f} times as small as usual")
    if row["offset"] >= OFFSET:
        found.append(f"offset of {row['offset']:,.0f} sd")
    if row["outliers"] > OUTLIERS:
        found.append(f"{100 * row['outliers']:.1f} % outliers")
    if abs(row["skew"]) >= SKEW:
        found.append(f"skew {row['skew']:.1f}")
    if abs(row["correlation"]) >= COLLINEAR:
        found.append(f"nearly collinear with {row['correlated_with']}")
    return ", ".join(found)


def conditioning(x: ArrayLike, names: Sequence[str], scaled: Sequence[bool] = ()) -> pd.DataFrame:
    """Return the condition number under each affine scaler.

    Parameters
    ----------
    x : array-like of shape (n_samples, n_features)
    names : sequence of str
        Scalers, of `scaling_study.study.scalers.AFFINE`.
    scaled : sequence of bool
        Which columns they scale; all by default.

    Returns
    -------
    DataFrame
        ``scaler, kappa``; ``largest``, the largest eigenvalue, whose inverse bounds the learning
        rate of gradient descent to ``2 / largest``; ``spread``, the largest sd of a column.
    """
    x = np.asarray(x, np.float64)
    mask = np.asarray(scaled if len(scaled) else np.ones(x.shape[1], bool))
    rows = []
    for name in names:
        centre, divisor = scalers.affine(name, x)
        z = np.where(mask, (x - centre) / divisor, x)
        values, _ = spectrum(z)
        values = values[values > 0]
        rows.append((name, values.max() / values.min(), values.max(), z.std(axis=0).max()))
    return pd.DataFrame(rows, columns=["scaler", "kappa", "largest", "spread"])


def rank_agreement(shares: pd.DataFrame, reference: str) -> pd.Series:
    """Return Spearman's correlation of each column of shares with a reference column."""
    found = {
        name: stats.spearmanr(shares[name], shares[reference])[0]
        for name in shares
        if shares[name].nunique() > 1 and shares[reference].nunique() > 1
    }
    return pd.Series(found, dtype=float)
