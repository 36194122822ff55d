"""What every line fit promises: LTS, marginalised normal regression, least squares."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from tullyflow.errors import RelationError
from tullyflow.relation.line import check_points
from tullyflow.relation.lts import best_half, draw_pairs, fit_lts
from tullyflow.relation.regression import _log_likelihood, fit_mnr, fit_ols

TRUE = {"slope": 0.26, "intercept": 2.26, "scatter": 0.05}
PIVOT = 10.09


def simulate(rng, n, x_err=0.1):
    x = rng.normal(10.1, 0.6, n)
    y_err = rng.uniform(0.01, 0.06, n)
    y = TRUE["slope"] * (x - PIVOT) + TRUE["intercept"] + TRUE["scatter"] * rng.standard_normal(n) + y_err * rng.standard_normal(n)
    return x + x_err * rng.standard_normal(n), y, np.full(n, x_err), y_err


def lts(data, pivot=PIVOT, seed=0):
    return fit_lts(*data, pivot, rng=np.random.default_rng(seed))


def mnr(data, pivot=PIVOT, seed=0, **options):
    return fit_mnr(*data, pivot, rng=np.random.default_rng(seed), **options)


def ols(data, pivot=PIVOT, seed=0):
    return fit_ols(*data, pivot)


FITS = {"lts": lts, "mnr": mnr, "ols": ols}


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


@pytest.mark.parametrize("name", FITS)
def test_pivot_moves_the_intercept_along_the_line_and_nothing_else(name):
    data = simulate(np.random.default_rng(6), 150)
    here, there = FITS[name](data), FITS[name](data, pivot=PIVOT - 3)
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


@pytest.mark.parametrize("name", FITS)
def test_a_seed_gives_the_same_fit_twice(name):
    data = simulate(np.random.default_rng(12), 60)
    one, two = FITS[name](data), FITS[name](data)
    assert (one.slope, one.slope_err, one.scatter, one.scatter_err) == (two.slope, two.slope_err, two.scatter, two.scatter_err)


def spoilt(change):
    x, y, x_err, y_err = (values.copy() for values in simulate(np.random.default_rng(13), 30))
    return change(x, y, x_err, y_err)


@pytest.mark.parametrize("name", FITS)
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
        (lambda x, y, a, b: (x, y, 0.0, 0.0), "zero for all 30"),
        (lambda x, y, a, b: (x, y[:-1], a, b), "equally long"),
        (lambda x, y, a, b: (x, y, a, b[:-1]), "another length"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_with_its_number(name, change, sentence):
    with pytest.raises(RelationError, match=sentence):
        FITS[name](spoilt(change))


def test_lts_on_the_thesis_sample_size_takes_well_below_a_second():
    data = simulate(np.random.default_rng(14), 1834)
    times = []
    for seed in range(2):
        begin = time.process_time()
        lts(data, seed=seed)
        times.append(time.process_time() - begin)
    assert min(times) < 2.0, times  # 0.4 s on a quiet core; twice and more on a shared one


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
