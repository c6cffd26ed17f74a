"""The learning rates that a diagnosis tries."""

import numpy as np
import pytest

from scaling_study.execution import diagnose


@pytest.mark.parametrize("first", [-4, -7, -8, -10, -17, -25])
def test_a_thinned_grid_keeps_its_smallest_rate_and_no_wider_gaps(first):
    rates = diagnose._rates(range(first, 1), 1e-2)
    assert rates[0] == pytest.approx(10.0**first)
    assert rates[-1] == 1
    assert 1e-2 in rates
    assert len(rates) <= diagnose.MOST_RATES + 2
    gaps = np.diff(np.log10(rates))
    assert gaps.max() < -(-(1 - first) // diagnose.MOST_RATES) + 1e-9


def test_a_grid_of_few_decades_is_not_thinned():
    assert diagnose._rates(range(-4, 0), 1e-3) == [1e-4, 1e-3, 1e-2, 1e-1]
