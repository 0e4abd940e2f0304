"""How unlikely a count is: tails of the negative binomial distribution."""

from __future__ import annotations

import numpy as np
from scipy.special import betainc

from alerts.detect.history import Floats

#: Below this the negative binomial is a Poisson distribution for every practical purpose, and the incomplete beta stays well-behaved.
SMALLEST_DISPERSION = 1e-9


def _parameters(mean: Floats, dispersion: Floats) -> tuple[Floats, Floats]:
    size = 1.0 / np.maximum(dispersion, SMALLEST_DISPERSION)
    return size, size / (size + np.maximum(mean, 0.0))


def upper_tail(count: Floats, mean: Floats, dispersion: Floats) -> Floats:
    """P(X >= count) of a negative binomial with variance mean + dispersion x mean^2.

    Counts with a gamma-distributed rate are negative binomial (Greenwood and Yule, 1920), and the tails are incomplete beta functions
    (Johnson, Kemp and Kotz, Univariate Discrete Distributions, 3rd ed., chapter 5).
    """
    size, probability = _parameters(mean, dispersion)
    result: Floats = np.where(count <= 0, 1.0, betainc(np.maximum(count, 1e-300), size, 1.0 - probability))
    return result


def lower_tail(count: Floats, mean: Floats, dispersion: Floats) -> Floats:
    """P(X <= count) of the same distribution."""
    size, probability = _parameters(mean, dispersion)
    result: Floats = betainc(size, np.maximum(count, 0.0) + 1.0, probability)
    return result
