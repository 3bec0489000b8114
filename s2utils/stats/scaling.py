"""Laws of scale: how loss falls with parameters N, training data D and compute, and how little a few points say of it.

`hoffmann` fits L = E + A / N^alpha + B / D^beta (Hoffmann and others 2022, their third approach: Huber loss on log L,
delta 0.001, from a grid of starts); `power` fits L = A / N^alpha / D^beta, a plane of logarithms that knows no floor;
`curve` fits L = A / x^alpha to one quantity (Kaplan and others 2020). Loss and D may be of any unit, the same in all
points. Traps: E and A are told apart only by points near the floor, so small models' fits hold within their range and
not beyond; checkpoints of one run are not independent, so an interval over points is too narrow (`runs` are few).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

DELTA = 1e-3  # Huber's, of log L
STEEPEST = 3.0  # exponent; a larger one says that a quantity stopped to matter
SEEN = 1e-3  # of the loss: what is smaller is not told from 0
Values = dict[str, float]


class ScalingError(ValueError):
    """Points that no law can be fitted to."""


def hoffmann(parameters, data, loss, start: Values | None = None) -> Values:
    """{E, A, alpha, B, beta} of L = E + A / N^alpha + B / D^beta; ScalingError for fewer than 6 points or 3 of N, D.

    `start` replaces the grid of starts, where a law near the right one is known.
    """
    n, d, y = _logs(parameters, data, loss, sizes=3, least=6)
    middle_n, middle_d = n.mean(), d.mean()  # what each term is there is better conditioned than A and B
    n, d = n - middle_n, d - middle_d

    def terms(x: np.ndarray) -> np.ndarray:
        """(3, points) logarithms of E, A / N^alpha and B / D^beta."""
        return np.stack([np.full_like(y, x[0]), x[1] - x[3] * n, x[2] - x[4] * d])

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(terms(x), axis=0) - y

    def slopes(x: np.ndarray) -> np.ndarray:
        e, a, b = np.exp(terms(x) - np.logaddexp.reduce(terms(x), axis=0))
        return np.stack([e, a, b, -a * n, -b * d], axis=1)

    low, high = [y.min() - 12, y.min() - 30, y.min() - 30, 0, 0], [y.min(), y.max(), y.max(), STEEPEST, STEEPEST]
    if start:
        a, b = (math.log(start[k]) - start[x] * m for k, x, m in (("A", "alpha", middle_n), ("B", "beta", middle_d)))
        starts = [[math.log(start["E"]), a, b, start["alpha"], start["beta"]]]
    else:
        starts = [
            [y.min() + floor, y.mean() - 1, y.mean() - 1, alpha, beta]
            for floor, alpha, beta in itertools.product((-2.0, -0.3), (0.2, 0.6), (0.2, 0.6))
        ]
    inside = [np.clip(x, np.add(low, 1e-6), np.subtract(high, 1e-6)) for x in starts]
    settings = {"jac": slopes, "bounds": (low, high), "loss": "huber", "f_scale": DELTA, "max_nfev": 300}
    e, a, b, alpha, beta = min(
        (least_squares(residuals, x, **settings) for x in inside), key=lambda fit: fit.cost
    ).x.tolist()
    a, b = a + alpha * middle_n, b + beta * middle_d
    return {"E": math.exp(e), "A": math.exp(a), "alpha": alpha, "B": math.exp(b), "beta": beta}


def power(parameters, data, loss, start: Values | None = None) -> Values:
    """{A, alpha, beta} of L = A / N^alpha / D^beta, least squares of logarithms; `start` is not needed."""
    n, d, y = _logs(parameters, data, loss, sizes=2, least=4)
    (a, alpha, beta), *_ = np.linalg.lstsq(np.column_stack([np.ones_like(n), -n, -d]), y, rcond=None)
    return {"A": math.exp(a), "alpha": float(alpha), "beta": float(beta)}


def curve(x, loss) -> Values:
    """{A, alpha} of L = A / x^alpha, least squares of logarithms."""
    x, y = (np.log(_positive(values, name)) for values, name in ((x, "x"), (loss, "loss")))
    if len(np.unique(x)) < 2:
        raise ScalingError(f"a curve needs 2 different x, not {len(np.unique(x))}: add a size or a checkpoint")
    slope, level = np.polyfit(x, y, 1)
    return {"A": math.exp(level), "alpha": float(-slope)}


LAWS: dict[str, Callable[..., Values]] = {"hoffmann": hoffmann, "power": power}


def predict(law: Values, parameters, data) -> np.ndarray:
    """Loss by `hoffmann` or `power` at N and D."""
    n, d = np.asarray(parameters, dtype=float), np.asarray(data, dtype=float)
    if "E" in law:
        return law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * d ** -law["beta"]
    return law["A"] * n ** -law["alpha"] * d ** -law["beta"]


def choose(parameters, data, loss) -> tuple[str, pd.DataFrame]:
    """(the law that the points bear, one row a law): law, n, k, relative_error, aicc, reason.

    relative_error is the root mean square of log L. AICc (Hurvich and Tsai 1989) asks of each value of `hoffmann` that
    it earns its place; a law at the end of a value's range (no floor, an exponent of 0 or `STEEPEST`) is not borne.
    """
    rows = []
    for name, fit in LAWS.items():
        try:
            law = fit(parameters, data, loss)
        except ScalingError as error:
            rows.append((name, len(loss), math.nan, math.nan, math.inf, str(error)))
            continue
        n, k = len(loss), len(law) + 1  # and the variance
        errors = np.log(loss) - np.log(predict(law, parameters, data))
        square = max(float(np.mean(errors**2)), 1e-30)
        aicc = n * math.log(square) + 2 * k * (n / (n - k - 1)) if n > k + 1 else math.inf
        reason = _not_borne(law, *(np.asarray(values, dtype=float) for values in (parameters, data, loss)))
        rows.append((name, n, k, math.sqrt(square), aicc, reason))
    table = pd.DataFrame(rows, columns=["law", "n", "k", "relative_error", "aicc", "reason"])
    borne = table[(table["reason"] == "") & np.isfinite(table["aicc"])]
    if borne.empty:
        return "power", table
    return str(borne.loc[borne["aicc"].idxmin(), "law"]), table


def intervals(
    law: str, parameters, data, loss, resamples: int, confidence: float, seed: int, at: tuple = ()
) -> pd.DataFrame:
    """One row a value of the law, then one a pair (N, D) of `at`: what, value, ci_low, ci_high, n, n_failed.

    Bootstrap of the errors of log L around the fit (N and D are chosen, not drawn); n_failed counts resamples that no
    law could be fitted to.
    """
    n, d, y = (np.asarray(values, dtype=float) for values in (parameters, data, loss))
    fitted = LAWS[law](n, d, y)
    expected = predict(fitted, n, d)
    errors, rng = np.log(y / expected), np.random.default_rng(seed)
    errors = (errors - errors.mean()) * math.sqrt(len(y) / max(1, len(y) - len(fitted)))

    def values(law_values: Values) -> list[float]:
        return [*law_values.values(), *(float(predict(law_values, *pair)) for pair in at)]

    drawn, failed = [], 0
    for _ in range(resamples):
        try:
            drawn.append(values(LAWS[law](n, d, expected * np.exp(rng.choice(errors, len(y))), fitted)))
        except ScalingError:
            failed += 1
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0) if drawn else np.full((2, len(values(fitted))), math.nan)
    what = [*fitted, *(f"loss at N = {pair[0]:.3g}, D = {pair[1]:.3g}" for pair in at)]
    frame = pd.DataFrame({"what": what, "value": values(fitted), "ci_low": low, "ci_high": high})
    return frame.assign(n=len(y), n_failed=failed)


def forecast(law: str, parameters, data, loss) -> tuple[float, float]:
    """(error, baseline) at the largest N, root mean squares of log L: of the law fitted to all smaller N, and of saying

    that the loss is that of the next smaller N at the nearest D. A law that does no better than that says nothing of
    larger N. ScalingError where the smaller N are too few.
    """
    n, d, y = (np.asarray(values, dtype=float) for values in (parameters, data, loss))
    last = n == n.max()
    said = predict(LAWS[law](n[~last], d[~last], y[~last]), n[last], d[last])
    below = n == n[~last].max()
    nearest = np.abs(np.log(d[last][:, None] / d[below])).argmin(axis=1)
    return _rms(np.log(said / y[last])), _rms(np.log(y[below][nearest] / y[last]))


def statement(parameters, data, loss, resamples: int, confidence: float, seed: int) -> str:
    """How much the points say, in two sentences: number and span, the law, the loss at ten times the largest N."""
    law, _ = choose(parameters, data, loss)
    n, d = np.asarray(parameters, dtype=float), np.asarray(data, dtype=float)
    beyond = intervals(law, n, d, loss, resamples, confidence, seed, at=((10 * n.max(), d.max()),)).iloc[-1]
    spans = [math.log10(x.max() / x.min()) for x in (n, d)]
    name = "Hoffmann's law with a floor" if law == "hoffmann" else "a plain power law without a floor"
    said = (
        f"{len(n)} points of {len(np.unique(n))} sizes span {spans[0]:.1f} decades of N and {spans[1]:.1f} of D and "
        f"bear {name}; at ten times the largest N it gives {beyond['value']:.3g} [{beyond['ci_low']:.3g}, "
        f"{beyond['ci_high']:.3g}], an interval too narrow, for checkpoints of one run are not independent."
    )
    try:
        error, baseline = forecast(law, n, d, loss)
    except ScalingError:
        return f"{said} Too few sizes to forecast the largest from the others."
    better = "better than" if error < baseline else "no better than"
    return (
        f"{said} Fitted without the largest size it misses that by {error:.1%}, {better} taking the loss of the size "
        f"below ({baseline:.1%})."
    )


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _logs(parameters, data, loss, sizes: int, least: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logarithms of N, D and L; ScalingError where the points are too few for the law."""
    n, d, y = (_positive(v, name) for v, name in ((parameters, "N"), (data, "D"), (loss, "the loss")))
    if not len(n) == len(d) == len(y):
        raise ScalingError(f"{len(n)} N, {len(d)} D and {len(y)} losses: give as many of each")
    several = len(np.unique(n)), len(np.unique(d))
    if len(y) < least or min(several) < sizes:
        raise ScalingError(
            f"{len(y)} points of {several[0]} N and {several[1]} D: the law needs {least} points of {sizes} each; add "
            "sizes or checkpoints"
        )
    return np.log(n), np.log(d), np.log(y)


def _positive(values, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ScalingError(f"{name} must be finite and above 0 in every point: {values[:8].tolist()}")
    return values


def _not_borne(law: Values, n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> str:
    """Why a law is not borne by its points, "" where it is."""
    falls = {
        "N": predict(law, n.min(), np.median(d)) - predict(law, n.max(), np.median(d)),
        "D": predict(law, np.median(n), d.min()) - predict(law, np.median(n), d.max()),
    }
    for name, exponent in (("N", law["alpha"]), ("D", law["beta"])):
        if falls[name] < SEEN * loss.min():
            return f"the loss does not fall with {name}"
        if exponent > STEEPEST - SEEN:
            return f"an exponent of {STEEPEST:g} or more: {name} stops to matter within the points"
    return "E is 0: no floor is seen" if law.get("E", math.inf) < SEEN * loss.min() else ""
