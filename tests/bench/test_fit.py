"""The scalability fit: known coefficients come back, noise shows in the errors, too little is no fit."""

import numpy as np
import pytest

from agentd.bench.fit import scalability

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)


def law(n: float, rate: float = 500.0, sigma: float = 0.05, kappa: float = 0.0005) -> float:
    return rate * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def test_known_coefficients_come_back() -> None:
    found = scalability([(n, law(n)) for n in COUNTS])
    assert found is not None
    assert (found.rate, found.sigma, found.kappa) == pytest.approx((500.0, 0.05, 0.0005), rel=1e-6)
    assert found.best_at == pytest.approx((0.95 / 0.0005) ** 0.5)
    assert found.r2 == pytest.approx(1.0)
    assert found.at(20) == pytest.approx(law(20))


def test_the_truth_lies_within_a_few_errors_of_a_noisy_fit() -> None:
    random = np.random.default_rng(3)
    found = scalability([(n, law(n) * float(random.normal(1, 0.03))) for n in COUNTS for _ in range(3)])
    assert found is not None
    assert 0 < found.rate_error < 50
    assert abs(found.rate - 500.0) < 4 * found.rate_error
    assert abs(found.sigma - 0.05) < 4 * found.sigma_error
    assert abs(found.kappa - 0.0005) < 4 * found.kappa_error


def test_throughput_that_never_falls_has_no_best_point() -> None:
    found = scalability([(n, law(n, kappa=0.0)) for n in COUNTS[:5]])
    assert found is not None
    assert found.kappa == pytest.approx(0.0, abs=1e-9)


def test_too_few_points_are_no_fit() -> None:
    assert scalability([(1, 500.0), (2, 900.0), (4, 1500.0)]) is None
    assert scalability([(1, 500.0)] * 9) is None
    assert scalability([(n, 0.0) for n in COUNTS]) is None
