"""What every line fit promises: LTS, marginalised normal regression, least squares."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from tullyflow.errors import RelationError
from tullyflow.relation.least_squares import fit_bisector, fit_ols
from tullyflow.relation.line import check_points
from tullyflow.relation.lts import best_half, draw_pairs, fit_lts
from tullyflow.relation.methods import METHODS, fit_by_method
from tullyflow.relation.posterior import sample_posterior, walk
from tullyflow.relation.regression import _begin, _log_likelihood, _log_parts, _maximise, fit_mnr

TRUE = {"slope": 0.26, "intercept": 2.26, "scatter": 0.05}
PIVOT = 10.09


def simulate(rng, n, x_err=0.1):
    x = rng.normal(10.1, 0.6, n)
    y_err = rng.uniform(0.01, 0.06, n)
    y = TRUE["slope"] * (x - PIVOT) + TRUE["intercept"] + TRUE["scatter"] * rng.standard_normal(n) + y_err * rng.standard_normal(n)
    return x + x_err * rng.standard_normal(n), y, np.full(n, x_err), y_err


def censored(seed, n, level):
    """Every y below ``level`` only known to lie below it."""
    x, y, x_err, y_err = simulate(np.random.default_rng(seed), n, x_err=0.05)
    upper = y < level
    return (x, np.where(upper, level, y), x_err, y_err), upper


def contaminated(rng):
    x, y, x_err, y_err = simulate(rng, 150)
    return x, np.where(np.arange(150) < 9, y - 0.6 + 0.3 * rng.standard_normal(150), y), x_err, y_err


def lts(data, pivot=PIVOT, seed=0):
    return fit_lts(*data, pivot, rng=np.random.default_rng(seed))


def mnr(data, pivot=PIVOT, seed=0, **options):
    return fit_mnr(*data, pivot, rng=np.random.default_rng(seed), **options)


def ols(data, pivot=PIVOT, seed=0):
    return fit_ols(*data, pivot)


def bisector(data, pivot=PIVOT, seed=0):
    return fit_bisector(*data, pivot)


FITS = {"lts": lts, "mnr": mnr, "ols": ols}  # of y given x: the bisector is another line
ALL = FITS | {"bisector": bisector}


@pytest.mark.parametrize("name", FITS)
def test_errors_cover_the_truth(name):
    """Of 50 skies a binomial with p = 0.683 puts 34 ± 3.3 within 1 sigma; 4 sigma allow 21 to 47. MNR, which samples, has 24."""
    skies = 24 if name == "mnr" else 50
    inside, pulls = np.zeros(2), []
    for k in range(skies):
        fit = FITS[name](simulate(np.random.default_rng(100 + k), 120, x_err=0.02), seed=k)
        pull = np.array([(fit.slope - TRUE["slope"]) / fit.slope_err, (fit.intercept - TRUE["intercept"]) / fit.intercept_err])
        inside += np.abs(pull) < 1
        pulls.append(pull)
    tolerance = 4 * np.sqrt(0.683 * 0.317 * skies)
    assert np.all(np.abs(inside - 0.683 * skies) < tolerance), inside
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 4 / np.sqrt(skies)), np.mean(pulls, axis=0)


def test_mnr_is_unbiased_where_the_errors_of_x_compare_with_its_spread_and_least_squares_is_not():
    data = simulate(np.random.default_rng(8), 1500, x_err=0.4)
    fit, plain = mnr(data), ols(data)
    assert abs(fit.slope - TRUE["slope"]) < 4 * fit.slope_err
    assert abs(fit.scatter - TRUE["scatter"]) < 4 * fit.scatter_err
    attenuation = 0.6**2 / (0.6**2 + 0.4**2)
    assert plain.slope == pytest.approx(attenuation * TRUE["slope"], abs=4 * plain.slope_err)


@pytest.mark.parametrize("name", ["lts", "mnr"])
def test_intrinsic_scatter_is_found_and_is_not_the_rms(name):
    fit = FITS[name](simulate(np.random.default_rng(2), 800, x_err=0.02))
    # clipping at 2.6 sigma takes some 6 % off the standard deviation of LTS (a few thousandths here)
    assert fit.scatter == pytest.approx(TRUE["scatter"], abs=4 * fit.scatter_err + (0.005 if name == "lts" else 0))
    assert fit.rms > fit.scatter + 0.005


@pytest.mark.parametrize("name", ["lts", "mnr"])
def test_no_scatter_is_claimed_where_the_errors_explain_everything(name):
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, 200)
    fit = FITS[name]((x, 2 * x + 0.1 * rng.standard_normal(200), np.full(200, 1e-3), np.full(200, 0.13)), pivot=0.0)
    assert fit.scatter < 0.03
    assert fit.slope == pytest.approx(2, abs=5 * fit.slope_err)


@pytest.mark.parametrize("name", ["lts", "mnr"])
def test_thirty_per_cent_of_outliers_on_one_side_do_not_move_the_line(name):
    x, y, x_err, y_err = simulate(np.random.default_rng(3), 600, x_err=0.05)
    bad = np.zeros(600, dtype=bool)
    bad[np.argsort(x)[-180:]] = True  # all at the massive end: the worst leverage
    y = np.where(bad, y - 0.8 + 0.2 * np.random.default_rng(4).standard_normal(600), y)
    fit, plain = FITS[name]((x, y, x_err, y_err)), ols((x, y, x_err, y_err))
    assert abs(fit.slope - TRUE["slope"]) < 5 * fit.slope_err
    assert abs(fit.intercept - TRUE["intercept"]) < 5 * fit.intercept_err
    assert abs(plain.slope - TRUE["slope"]) > 20 * fit.slope_err  # the same points do break least squares
    assert np.mean(~fit.used[bad]) > 0.97 and np.mean(fit.used[~bad]) > 0.95
    assert fit.n_used + fit.n_outliers == 600


@pytest.mark.parametrize("name", ALL)
def test_pivot_moves_the_intercept_along_the_line_and_nothing_else(name):
    data = simulate(np.random.default_rng(6), 150)
    here, there = ALL[name](data), ALL[name](data, pivot=PIVOT - 3)
    assert there.slope == pytest.approx(here.slope, rel=1e-9)
    assert there.scatter == pytest.approx(here.scatter, rel=1e-9)
    assert there.intercept == pytest.approx(here.intercept - 3 * here.slope, rel=1e-9)
    lever = np.array([-3.0, 1.0])
    assert there.intercept_err == pytest.approx(np.sqrt(lever @ here.covariance @ lever), rel=1e-9)
    assert there.intercept_err > 3 * here.intercept_err


@pytest.mark.parametrize("name", FITS)
def test_units_do_not_matter(name):
    x, y, x_err, y_err = simulate(np.random.default_rng(7), 150)
    here, there = FITS[name]((x, y, x_err, y_err)), FITS[name]((10 * x, -2.5 * y, 10 * x_err, 2.5 * y_err), pivot=10 * PIVOT)
    tolerance = 0.2 if name == "mnr" else 1e-3  # in sigma; sampling is redone in other units, values of largest likelihood are not
    assert abs(there.slope / -0.25 - here.slope) < tolerance * here.slope_err
    assert abs(there.intercept / -2.5 - here.intercept) < tolerance * here.intercept_err
    assert there.scatter / 2.5 == pytest.approx(here.scatter, rel=0.02)


def test_concentration_finds_the_best_half_that_exhaustive_search_finds():
    rng = np.random.default_rng(9)
    x = rng.uniform(-1, 1, 15)
    y = np.where(np.arange(15) < 9, 0.7 * x, 3 - 2 * x) + 0.05 * rng.standard_normal(15)
    points = check_points(x, y, np.full(15, 1e-6), np.full(15, 0.1))
    h = (15 + 3) // 2
    slope, intercept, kept = best_half(points, 0.0, draw_pairs(points.x, rng))
    assert kept.sum() == h == 9
    assert set(np.flatnonzero(kept)) == set(range(9))  # any other half has a far larger sum of squares
    ours = np.sum((points.y - slope * points.x - intercept)[kept] ** 2)
    assert ours == pytest.approx(np.polyfit(points.x[:9], points.y[:9], 1, full=True)[1][0], rel=1e-6)


def test_lts_line_is_the_chi_squared_minimum_of_its_kept_points_and_the_scatter_makes_it_one():
    x, y, x_err, y_err = data = simulate(np.random.default_rng(10), 300, x_err=0.3)  # weights that depend on the slope
    fit = lts(data)

    def chi2(line):
        variance = line[0] ** 2 * x_err**2 + y_err**2 + fit.scatter**2
        return np.sum(((y - line[0] * (x - PIVOT) - line[1]) ** 2 / variance)[fit.used])

    best = minimize(chi2, [fit.slope, fit.intercept], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).x
    assert (fit.slope, fit.intercept) == pytest.approx(tuple(best), abs=1e-6)
    if fit.scatter > 0:
        assert chi2(best) / (fit.n_used - 2) == pytest.approx(1, abs=0.02)


def test_starting_pairs_never_share_their_x():
    x = np.array([1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0])
    pairs = draw_pairs(x, np.random.default_rng(0))
    assert pairs.shape == (500, 2)
    assert np.all(x[pairs[:, 0]] != x[pairs[:, 1]])
    assert set(pairs.ravel()) == set(range(7))


def test_likelihood_is_that_of_the_bivariate_normal():
    """Against the matrix form, point by point."""
    rng = np.random.default_rng(11)
    points = check_points(*simulate(rng, 20))
    slope, intercept, scatter, mu, width = 0.3, 0.1, 0.07, 0.05, 0.5
    total = 0.0
    for x, y, sx2, sy2 in zip(points.x, points.y, points.x_var, points.y_var, strict=True):
        cov = np.array([[width**2 + sx2, slope * width**2], [slope * width**2, slope**2 * width**2 + sy2 + scatter**2]])
        d = np.array([x - mu, y - intercept - slope * mu])
        total += -0.5 * (d @ np.linalg.solve(cov, d) + np.log(np.linalg.det(2 * np.pi * cov)))
    assert _log_likelihood(points, np.array([[slope, intercept, scatter, mu, width]]))[0] == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("limits", [False, True])
def test_likelihood_with_outliers_and_limits_is_the_sum_of_both_parts(limits):
    rng = np.random.default_rng(21)
    points = check_points(*simulate(rng, 40), np.arange(40) % 3 == 0 if limits else None)
    theta = np.array([[0.3, 0.1, 0.07, 0.05, 0.5, 0.2, np.log(0.4), -0.1], [0.2, 0.0, 0.0, -0.3, 0.8, 1e-12, 0.0, 5.0]])
    assert _log_likelihood(points, theta) == pytest.approx(np.logaddexp(*_log_parts(points, theta)).sum(axis=1), rel=1e-12)


@pytest.mark.parametrize(
    ("points", "outliers"),
    [
        (check_points(*simulate(np.random.default_rng(22), 150)), True),
        (check_points(*simulate(np.random.default_rng(22), 150)), False),
        (check_points(*contaminated(np.random.default_rng(23))), True),
        (check_points(*censored(24, 150, 2.1)[0], censored(24, 150, 2.1)[1]), True),
    ],
    ids=["no outliers", "outliers not allowed", "outliers", "limits"],
)
def test_weighted_draws_are_of_the_posterior_that_emcee_walks(points, outliers):
    """Both have some 1,000 effective draws: standard deviations to 2.5 %, means to 0.035 sigma each; 4 times that is allowed."""
    rng = np.random.default_rng(25)
    start = _begin(points, outliers, rng)
    log_likelihood = partial(_log_likelihood, points)
    best = _maximise(points, start)
    draws, chain = sample_posterior(log_likelihood, best, start, rng), walk(log_likelihood, best, start, rng, steps=2000)
    assert draws.effective >= 1000
    spread = np.sqrt(np.diag(chain.covariance()))
    assert np.sqrt(np.diag(draws.covariance())) / spread == pytest.approx(1, abs=0.14)
    means = np.average(draws.theta, axis=0, weights=draws.weight), chain.theta.mean(axis=0)
    assert np.all(np.abs(means[0] - means[1]) < 0.2 * spread)


@pytest.mark.parametrize("name", ALL)
def test_a_seed_gives_the_same_fit_twice(name):
    data = simulate(np.random.default_rng(12), 60)
    one, two = ALL[name](data), ALL[name](data)
    assert (one.slope, one.slope_err, one.scatter, one.scatter_err) == (two.slope, two.slope_err, two.scatter, two.scatter_err)


def spoilt(change):
    x, y, x_err, y_err = (values.copy() for values in simulate(np.random.default_rng(13), 30))
    return change(x, y, x_err, y_err)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x, y, a, b: (x[:9], y[:9], a[:9], b[:9]), "9 point"),
        (lambda x, y, a, b: (x[:0], y[:0], a[:0], b[:0]), "0 point"),
        (lambda x, y, a, b: (np.full(30, 10.0), y, a, b), "x is 10 for all 30 points"),
        (lambda x, y, a, b: (x, np.where(np.arange(30) < 3, np.nan, y), a, b), "y is not finite for 3 of 30"),
        (lambda x, y, a, b: (x, y, a, np.where(np.arange(30) < 4, 0, b)), "error of y is not a positive number for 4 of 30"),
        (lambda x, y, a, b: (x, y, np.where(np.arange(30) < 5, -0.1, a), b), "error of x is not a positive number for 5 of 30"),
        (lambda x, y, a, b: (x, y, a, np.full(30, np.nan)), "error of y is not a positive number for 30 of 30"),
        (lambda x, y, a, b: (np.where(np.arange(30) < 2, np.inf, x), y, a, b), "x is not finite for 2 of 30"),
        (lambda x, y, a, b: (x, y[:-1], a, b), "equally long"),
        (lambda x, y, a, b: (x, y, a, b[:-1]), "another length"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_with_its_number(name, change, sentence):
    with pytest.raises(RelationError, match=sentence):
        ALL[name](spoilt(change))


@pytest.mark.parametrize("name", ALL)
def test_without_errors_least_squares_fits_and_the_others_say_what_they_need(name):
    x, y, _, _ = simulate(np.random.default_rng(13), 60)
    if name in ("lts", "mnr"):
        with pytest.raises(RelationError, match="zero for all 60 points; at least one of them must be positive"):
            ALL[name]((x, y, 0.0, 0.0))
    else:
        fit = ALL[name]((x, y, 0.0, 0.0))
        assert fit.scatter == pytest.approx(fit.rms)  # nothing else explains it


@pytest.mark.parametrize("name", FITS)
def test_no_unit_is_too_large_or_too_small(name):
    x, y, x_err, y_err = simulate(np.random.default_rng(26), 60)
    here, there = FITS[name]((x, y, x_err, y_err)), FITS[name]((1e12 * x, 1e-15 * y, 1e12 * x_err, 1e-15 * y_err), pivot=1e12 * PIVOT)
    assert there.slope * 1e27 == pytest.approx(here.slope, abs=1e-3 * here.slope_err)
    assert there.slope_err * 1e27 == pytest.approx(here.slope_err, rel=0.1 if name == "mnr" else 1e-3)
    assert there.scatter * 1e15 == pytest.approx(here.scatter, rel=1e-3) and there.n_outliers == here.n_outliers


@pytest.mark.parametrize("kind", [60, 90, "two"])
def test_many_points_of_one_x_are_fitted_or_refused_in_one_sentence(kind):
    refused = 0
    for seed in range(4):
        rng = np.random.default_rng([27, seed])
        x = np.repeat([1.0, 2.0], 50) if kind == "two" else np.where(np.arange(100) < kind, 10.0, rng.normal(10, 1, 100))
        data = (x, 0.3 * x + rng.normal(0, 0.1, 100), 0.05, 0.05)
        for name in ("mnr", "ols"):
            fit = ALL[name](data)
            assert abs(fit.slope - 0.3) < 4 * fit.slope_err
        try:
            fit = lts(data)
        except RelationError as err:
            assert "too many of the 100 points share their x" in str(err)
            refused += 1
        else:
            assert abs(fit.slope - 0.3) < 5 * fit.slope_err
    assert refused > 0 or kind != 90


def test_bisector_halves_the_angle_between_the_two_regressions_and_treats_x_and_y_alike():
    rng = np.random.default_rng(15)
    x = rng.normal(3, 1, 80)
    y = -1.4 * x + rng.normal(0, 0.8, 80)
    fit = fit_bisector(x, y, 0.0, 0.0, 0.0)
    on_x, on_y = np.polyfit(x, y, 1)[0], 1 / np.polyfit(y, x, 1)[0]
    assert np.arctan(fit.slope) == pytest.approx((np.arctan(on_x) + np.arctan(on_y)) / 2)
    assert np.mean(y) == pytest.approx(fit.predict(np.mean(x)))
    swapped = fit_bisector(y, x, 0.0, 0.0, 0.0)
    assert swapped.slope == pytest.approx(1 / fit.slope)
    assert swapped.slope_err == pytest.approx(fit.slope_err / fit.slope**2)


def test_bisector_errors_are_those_printed_by_isobe_and_the_spread_of_repeated_skies():
    def sky(seed):
        rng = np.random.default_rng([16, seed])
        x = rng.normal(0, 1, 100)
        return x + rng.normal(0, 0.3, 100), 0.8 * x + rng.normal(0, 0.4, 100)

    x, y = sky(0)
    fit = fit_bisector(x, y, 0.0, 0.0, 1.0)
    dx, dy = x - x.mean(), y - y.mean()
    sxx, sxy, syy = dx @ dx, dx @ dy, dy @ dy
    b1, b2 = sxy / sxx, syy / sxy
    var1, var2 = np.sum((dx * (dy - b1 * dx)) ** 2) / sxx**2, np.sum((dy * (dy - b2 * dx)) ** 2) / sxy**2
    cov = np.sum(dx * dy * (dy - b1 * dx) * (dy - b2 * dx)) / (b1 * sxx**2)
    bracket = (1 + b2**2) ** 2 * var1 + 2 * (1 + b1**2) * (1 + b2**2) * cov + (1 + b1**2) ** 2 * var2
    printed = fit.slope**2 / ((b1 + b2) ** 2 * (1 + b1**2) * (1 + b2**2)) * bracket
    assert fit.slope_err == pytest.approx(np.sqrt(printed))
    fits = [fit_bisector(*sky(k), 0.0, 0.0, 1.0) for k in range(400)]
    for value, err in (("slope", "slope_err"), ("intercept", "intercept_err")):
        spread = np.std([getattr(fit, value) for fit in fits])
        assert np.mean([getattr(fit, err) for fit in fits]) == pytest.approx(spread, rel=0.12)  # 3.5 % is one sigma


def test_bisector_of_uncorrelated_axes_is_refused():
    x, y = (values.ravel() for values in np.meshgrid(np.arange(4.0), np.arange(4.0)))
    with pytest.raises(RelationError, match="not correlated"):
        fit_bisector(x, y, 0.0, 0.0, 0.0)


def test_upper_limits_give_back_the_line_that_leaving_them_out_or_taking_them_as_values_loses():
    data, upper = censored(17, 800, 2.15)
    assert 0.2 < upper.mean() < 0.4
    fit = mnr(data, y_upper=upper)
    assert abs(fit.slope - TRUE["slope"]) < 3 * fit.slope_err and abs(fit.intercept - TRUE["intercept"]) < 3 * fit.intercept_err
    assert abs(fit.scatter - TRUE["scatter"]) < 3 * fit.scatter_err
    assert fit.n_limits == upper.sum() and fit.n_used + fit.n_outliers == 800
    for wrong in (mnr(data), mnr(tuple(values[~upper] for values in data))):
        assert abs(wrong.slope - TRUE["slope"]) > 4 * fit.slope_err


def test_no_upper_limits_change_nothing_and_one_far_above_changes_next_to_nothing():
    data = simulate(np.random.default_rng(18), 100)
    plain, none = mnr(data), mnr(data, y_upper=np.zeros(100, dtype=bool))
    assert (plain.slope, plain.slope_err, plain.scatter, plain.rms) == (none.slope, none.slope_err, none.scatter, none.rms)
    x, y, x_err, y_err = data
    far = mnr((np.append(x, x[0]), np.append(y, 9.0), np.append(x_err, x_err[0]), np.append(y_err, 0.0)), y_upper=np.arange(101) == 100)
    assert far.slope == pytest.approx(plain.slope, abs=0.3 * plain.slope_err)
    assert far.n_outliers == plain.n_outliers and far.rms == pytest.approx(plain.rms, rel=0.01)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_cut_on_a_measured_axis_biases_the_slope_and_said_it_does_not(axis):
    """A fifth is cut off; six skies, so that the bias of a corrected fit is known to 0.4 sigma."""
    pulls = []
    for seed in range(6):
        data = simulate(np.random.default_rng([29, seed]), 500, x_err=0.3)
        value = data[0] if axis == "x" else data[1]
        low = float(np.quantile(value, 0.2))
        kept = tuple(values[value > low] for values in data)
        fits = mnr(kept), mnr(kept, **{f"{axis}_range": (low, np.inf)})
        pulls.append([(fit.slope - TRUE["slope"]) / fit.slope_err for fit in fits])
    plain, told = np.mean(pulls, axis=0)
    print(f"cut in {axis}: {plain:.2f} sigma, {told:.2f} where it is said")
    assert abs(told) < 1.2 < abs(plain)


def test_a_cut_that_cuts_nothing_changes_nothing():
    data = simulate(np.random.default_rng(30), 100)
    plain, wide = mnr(data), mnr(data, x_range=(-100, 100))
    assert wide.slope == pytest.approx(plain.slope, abs=1e-3 * plain.slope_err)
    assert wide.scatter_err == pytest.approx(plain.scatter_err, rel=0.1)


def test_selections_that_cannot_be_are_refused():
    data, upper = censored(31, 60, 2.1)
    for more, sentence in (
        ({"x_range": (10, 20)}, "outside the range of x"),
        ({"x_range": (0, 20), "y_range": (0, 9)}, "one in y at the same time"),
        ({"y_range": (0, 9), "y_upper": upper}, "where y has upper limits"),
    ):
        with pytest.raises(RelationError, match=sentence):
            mnr(data, **more)
    with pytest.raises(RelationError, match="lts cannot take a selection"):
        fit_by_method("lts", *data, PIVOT, x_range=(0, 20), rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_cannot_take_upper_limits_says_so(name):
    data, upper = censored(19, 60, 2.1)
    if name == "mnr":
        assert fit_by_method(name, *data, PIVOT, y_upper=upper, rng=np.random.default_rng(0)).n_limits == upper.sum()
    else:
        with pytest.raises(RelationError, match=f"{name} cannot take the {upper.sum()} upper limit"):
            fit_by_method(name, *data, PIVOT, y_upper=upper, rng=np.random.default_rng(0))


def test_nearly_all_upper_limits_or_a_mask_of_another_kind_are_refused():
    data, _ = censored(20, 60, 2.1)
    with pytest.raises(RelationError, match=r"5 point\(s\) to fit beside 55 upper limit"):
        mnr(data, y_upper=np.arange(60) >= 5)
    with pytest.raises(RelationError, match="60 values of true or false"):
        mnr(data, y_upper=np.ones(60))


def sparc(shared):
    """SPARC (Lelli+2016) with V_flat, good quality and i >= 30 deg: log V, log L[3.6], log baryonic mass, and their errors."""
    table = pd.read_csv(shared / "truth" / "sparc_galaxies.csv")
    table = table[(table["Vflat_kms"] > 0) & (table["Q"] < 3) & (table["Inc_deg"] >= 30)]
    light, gas = table["L36_1e9_Lsun"], 1.33 * table["MHI_1e9_Msun"]
    v_err = np.hypot(table["e_Vflat_kms"] / table["Vflat_kms"], np.radians(table["e_Inc_deg"]) / np.tan(np.radians(table["Inc_deg"])))
    errors = v_err / np.log(10), 2 * table["e_D_Mpc"] / table["D_Mpc"] / np.log(10)
    values = np.log10(table["Vflat_kms"]), 9 + np.log10(light), 9 + np.log10(0.5 * light + gas)
    return [np.asarray(column) for column in (*values, *errors)]


@pytest.mark.parametrize("name", ["lts", "mnr"])
def test_real_galaxies_lie_on_the_published_baryonic_relation_and_their_light_on_a_steeper_one(name, shared):
    """Lelli+2019: slope 3.85 ± 0.09 for V_flat and the baryonic mass. Dwarfs are gas-rich, so light alone is steeper."""
    log_v, light, baryons, v_err, err = sparc(shared)
    fits = {what: FITS[name]((log_v, y, v_err, err), pivot=2.1) for what, y in (("baryons", baryons), ("light", light))}
    for what, fit in fits.items():
        print(f"SPARC {what} {name}: {log_v.size} galaxies, {fit.slope:.2f} ± {fit.slope_err:.2f}, scatter {fit.scatter:.3f}")
    assert fits["baryons"].slope == pytest.approx(3.85, abs=0.3)
    assert fits["baryons"].scatter < 0.2
    assert fits["light"].slope > fits["baryons"].slope + 0.2
