"""The columns of a table as a network meets them: units, offsets, outliers, and conditioning.

With z the training inputs, gradient descent on a linear model with a bias has the Hessian
``2 mean([z, 1] [z, 1]ᵀ)``. Its condition number κ is the ratio of its extreme eigenvalues, of the
directions in which the data vary: the number of updates that gradient descent needs grows in
proportion to it. In the other directions, such as that of a category's columns, which add up to 1,
the gradient is 0 and descent does not move.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from scaling_study.study import scalers
from scaling_study.study.canonical import EPS, canonical, orthogonal

Array = NDArray[np.float64]
UNIT = 100.0  # ratio of a standard deviation to that of a standardised column, worth naming
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
    if row["sd"] >= UNIT:
        found.append(f"numbers about {_rounded(row['sd'])} times those of a standardised column")
    if 0 < row["sd"] <= 1 / UNIT:
        small = _rounded(1 / row["sd"])
        found.append(f"numbers about {small} times smaller than those of a standardised column")
    if row["offset"] >= OFFSET:
        found.append(f"offset of about {_rounded(row['offset'])} sd")
    if row["outliers"] > OUTLIERS:
        found.append(f"{100 * row['outliers']:.1f} % outliers")
    if abs(row["skew"]) >= SKEW:
        found.append(f"skew {row['skew']:.1f}")
    if abs(row["correlation"]) >= COLLINEAR:
        found.append(f"nearly collinear with {row['correlated_with']}")
    return ", ".join(found)


def _rounded(ratio: float) -> str:
    """Return a large ratio for reading: two digits, in millions or billions."""
    ratio = float(f"{ratio:.2g}")
    if ratio >= 1e12:
        return f"10^{np.log10(ratio):.0f}"
    for size, word in ((1e9, " billion"), (1e6, " million")):
        if ratio >= size:
            return f"{ratio / size:g}{word}"
    return f"{ratio:,.0f}"


def conditioning(x: ArrayLike, names: Sequence[str], scaled: Sequence[bool] = ()) -> pd.DataFrame:
    """Return the condition number, of the directions in which the data vary, by affine scaler.

    Which directions those are is judged once, in standardised columns, so that neither units nor
    scalers decide it: those of the eigenvectors of the correlations whose eigenvalue is above
    ``d eps`` of the largest, with d the number of columns and eps float64's.

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
    values, mean, unit = canonical(np.asarray(x, np.float64))
    _, sizes, axes = np.linalg.svd(orthogonal(values)[1])
    rows = []
    for name in names:
        fitted = scalers.fit(name, values, unit, mean, scaled)
        norm, inverse = _norms(sizes, axes, fitted.feature_scale, fitted.feature_shift)
        spread = (np.abs(fitted.feature_scale) * values.std(axis=0)).max()
        rows.append((name, (norm * inverse) ** 2, 2 * norm**2, spread))
    return pd.DataFrame(rows, columns=["scaler", "kappa", "largest", "spread"])


def _norms(sizes: Array, axes: Array, gain: Array, shift: Array) -> tuple[float, float]:
    """Return the largest singular value of a linear model's inputs, and that of their inverse.

    With inputs ``gain u + shift`` and the singular values and axes of u, ``u = q sizes axes``, the
    inputs with a column of ones are an orthonormal matrix times A = (sizes axes, 0; 0, 1) K, with
    K = (gain, 0; shift, 1). Both factors are inverted as they are, without cancellation, and the
    directions N that A does not see, K⁻¹ times the axes without variation, are projected out: that
    is the pseudo-inverse. Its norm has the digits that the small singular values of A lose.
    """
    vary = sizes**2 > len(gain) * EPS * sizes[0] ** 2
    size, kept = sizes[vary, None], axes[vary]
    seen = _bordered(size * kept * gain, shift)
    inverse = (kept / size / gain).T
    unseen = (axes[~vary] / gain).T
    whole = _bordered(inverse, -shift @ inverse)
    basis, _ = np.linalg.qr(np.vstack([unseen, -shift @ unseen]))
    whole = whole - basis @ (basis.T @ whole)
    return float(np.linalg.norm(seen, 2)), float(np.linalg.norm(whole, 2))


def _bordered(block: Array, last: Array) -> Array:
    """Return ((block, 0), (last, 1))."""
    return np.block([[block, np.zeros((len(block), 1))], [last[None], np.ones((1, 1))]])


def rank_agreement(shares: pd.DataFrame, reference: str) -> pd.Series:
    """Return Spearman's correlation of each column of shares with a reference column."""
    found = {
        name: stats.spearmanr(shares[name], shares[reference])[0]
        for name in shares
        if shares[name].nunique() > 1 and shares[reference].nunique() > 1
    }
    return pd.Series(found, dtype=float)
