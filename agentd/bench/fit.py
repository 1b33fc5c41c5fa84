"""How throughput grows with what runs at once: the universal scalability law, fitted, with the errors of its figures.

X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)): lambda is what one alone gets done, sigma the share that queues
for one thing, kappa what each pair costs the other. N / X is linear in N - 1 and N (N - 1), so the fit is a plain one,
weighted so that each point's relative error counts the same. A coefficient below 0 means that work together got cheaper
(batches do that); it is told as it came out.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

POINTS_MIN = 4


class Scalability(msgspec.Struct, frozen=True):
    """The coefficients with their standard errors; `rate` is lambda, per second. `best_at`: where throughput is
    highest, None when it never falls. `r2` of throughput."""

    rate: float
    rate_error: float
    sigma: float
    sigma_error: float
    kappa: float
    kappa_error: float
    best_at: float | None
    r2: float

    def at(self, n: float) -> float:
        """The fitted throughput with so many at once."""
        return self.rate * n / (1 + self.sigma * (n - 1) + self.kappa * n * (n - 1))


def scalability(points: Sequence[tuple[float, float]]) -> Scalability | None:
    """Fit (at once, throughput) pairs; None with too few different ones to tell an error."""
    usable = [(n, x) for n, x in points if n > 0 and x > 0]
    if len({n for n, _ in usable}) < POINTS_MIN:
        return None
    n, x = (np.array(values, dtype=float) for values in zip(*usable, strict=True))
    weights = x / n  # of N / X: its relative error is that of X
    columns = np.column_stack((np.ones_like(n), n - 1, n * (n - 1))) * weights[:, None]
    found, *_ = np.linalg.lstsq(columns, np.ones_like(n), rcond=None)
    residuals = 1 - columns @ found
    covariance = np.linalg.pinv(columns.T @ columns) * float(residuals @ residuals) / (len(n) - 3)
    a, b, c = (float(value) for value in found)
    fitted = n / (a + b * (n - 1) + c * n * (n - 1))
    return Scalability(
        rate=1 / a,
        rate_error=float(np.sqrt(covariance[0, 0])) / a**2,
        sigma=b / a,
        sigma_error=_of_ratio(b, a, covariance[1, 1], covariance[0, 0], covariance[0, 1]),
        kappa=c / a,
        kappa_error=_of_ratio(c, a, covariance[2, 2], covariance[0, 0], covariance[0, 2]),
        best_at=float(np.sqrt((1 - b / a) / (c / a))) if c > 0 and b < a else None,
        r2=1 - float(np.sum((x - fitted) ** 2) / np.sum((x - np.mean(x)) ** 2)),
    )


def _of_ratio(over: float, under: float, over_var: float, under_var: float, both: float) -> float:
    """The standard error of over ÷ under, to first order."""
    variance = over_var / under**2 + over**2 * under_var / under**4 - 2 * over * both / under**3
    return float(np.sqrt(max(variance, 0.0)))
