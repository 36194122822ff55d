"""Promises of `tullyflow fit-line`: anybody's table, one line, and a sentence for what is wrong in it."""

import json

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import Table
from PIL import Image

from tullyflow.cli import main
from tullyflow.relation.lts import fit_lts

N = 60


def points(seed=1):
    rng = np.random.default_rng(seed)
    mass, err = rng.normal(10, 0.6, N), rng.uniform(0.02, 0.05, N)
    log_v = 0.3 * (mass - 10) + 2.2 + rng.normal(0, 0.05, N) + err * rng.standard_normal(N)
    log_v[:3] -= 0.9
    return pd.DataFrame({"galaxy": [f"G{k:02}" for k in range(N)], "log_mass": mass, "log_v": log_v, "log_v_err": err})


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mine.csv"
    points().to_csv(path, index=False)
    return path


def asked(capsys, path, *options, x="log_mass", y="log_v", errors=("--xerr", "0.1", "--yerr", "log_v_err")):
    """Exit code, the JSON or text of stdout, and stderr."""
    code = main(["fit-line", str(path), "--x", x, "--y", y, *errors, *map(str, options)])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out.startswith("{") else out, err


def said(capsys, path, *options, **more):
    """The one sentence of a refusal."""
    code, out, err = asked(capsys, path, *options, **more)
    assert code == 2 and out == "" and err.startswith("tullyflow: ") and err.count("\n") == 1 and err.endswith((".\n", "?\n")), err
    return err


def changed(path, change):
    """Change a table in place, or by what ``change`` returns."""
    frame = pd.read_csv(path)
    new = change(frame)
    (new if isinstance(new, pd.DataFrame) else frame).to_csv(path, index=False)
    return path


def test_json_is_the_fit_of_the_library_with_the_keys_of_a_relation(table, capsys):
    code, found, _ = asked(capsys, table, "--json", "--pivot", "10.09", "--seed", "3")
    data = points()
    fit = fit_lts(data["log_mass"], data["log_v"], 0.1, data["log_v_err"], 10.09, rng=np.random.default_rng(3))
    assert code == 0
    for key in ("slope", "slope_err", "intercept", "intercept_err", "scatter", "scatter_err", "rms", "pivot", "n_used", "n_outliers"):
        assert found[key] == pytest.approx(getattr(fit, key), rel=1e-12), key
    assert np.array(found["covariance"]) == pytest.approx(fit.covariance)
    assert (found["relation"], found["velocity"], found["method"]) == (None, None, "lts")
    assert (found["x"], found["y"], found["surveys"]) == ("log_mass", "log_v", [])
    assert {"G00", "G01", "G02"} <= set(found["outliers"]) == set(data["galaxy"][~fit.used]) and found["outliers_by"] == "galaxy"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "ecsv", "fits", "fits.gz", "parquet", "vot"])
def test_every_kind_of_table_gives_the_same_fit(suffix, tmp_path, capsys):
    frame, path = points(), tmp_path / f"t.{suffix}"
    frame["survey"] = np.where(np.arange(N) % 2, "sami", "manga")
    frame.loc[7, "log_v"] = np.nan
    if suffix in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        table = Table.from_pandas(frame)
        table["log_mass"].unit = u.solMass
        table["spectrum"] = np.zeros((N, 3))  # a column of vectors is no hindrance
        table.write(path, **({"format": "votable"} if suffix == "vot" else {}))
    code, found, _ = asked(capsys, path, "--json", "--method", "ols")
    kept = frame.dropna()
    assert code == 0 and found["n_missing"] == 1 and found["surveys"] == ["manga", "sami"]
    assert found["slope"] == pytest.approx(np.polyfit(kept["log_mass"], kept["log_v"], 1)[0], rel=1e-5)
    _, text, _ = asked(capsys, path)
    assert "G00" in text
    assert ("solMass" in text) == (suffix in ("ecsv", "fits", "fits.gz", "vot"))


@pytest.mark.parametrize("method", ["lts", "mnr", "ols", "bisector"])
def test_every_method_prints_the_line_for_a_person(method, table, capsys):
    code, text, _ = asked(capsys, table, "--method", method)
    assert code == 0 and f"log_v on log_mass by {method}" in text
    assert "intrinsic, in log_v" in text and "observed, of the" in text and "log_v at log_mass = " in text
    slope = float(text.split("slope")[1].split()[0])
    assert slope == pytest.approx(0.3, abs={"lts": 0.05, "mnr": 0.05}.get(method, 0.3))  # the outliers pull the other two


def test_missing_values_are_left_out_and_counted_with_their_column(table, capsys):
    changed(table, lambda t: t.__setitem__("log_v", t["log_v"].where(t.index > 8)))
    changed(table, lambda t: t.__setitem__("log_v_err", t["log_v_err"].where(t.index % 20 != 19)))
    code, text, _ = asked(capsys, table)
    assert code == 0 and "Of 60 rows 12 are left out, where a value is missing (log_v in 9, log_v_err in 3)." in text
    _, found, _ = asked(capsys, table, "--json")
    assert found["n_missing"] == 12 and found["n_used"] + found["n_outliers"] == 48


def test_outliers_of_a_table_without_names_are_its_rows_from_one(table, capsys):
    changed(table, lambda t: t.pop("galaxy"))
    _, found, _ = asked(capsys, table, "--json")
    assert {1, 2, 3} <= set(found["outliers"]) and found["outliers_by"] == "row"


def test_comments_on_top_a_hash_in_a_name_and_a_missing_name_are_no_hindrance(table, capsys):
    changed(table, lambda t: t.__setitem__("galaxy", ["NGC #1", None, *t["galaxy"][2:]]))
    table.write_text("# my galaxies\n# 2026\n" + table.read_text())
    code, found, _ = asked(capsys, table, "--json")
    assert code == 0 and found["n_used"] + found["n_outliers"] == N and {"NGC #1", 2, "G02"} <= set(found["outliers"])


def test_upper_limits_are_taken_by_mnr_alone_and_need_no_error(table, capsys):
    def limit(t):
        t.loc[:2, "log_v"] += 0.9  # no outliers here
        t["is_limit"] = ["yes" if v < 2.1 else "no" for v in t["log_v"]]
        t.loc[t["is_limit"] == "yes", ["log_v", "log_v_err"]] = [2.1, np.nan]

    changed(table, limit)
    code, found, _ = asked(capsys, table, "--json", "--method", "mnr", "--upper", "is_limit")
    limits = set(pd.read_csv(table).query("is_limit == 'yes'")["galaxy"])
    assert code == 0 and found["n_limits"] == len(limits - set(found["outliers"])) > 10 and found["n_missing"] == 0
    assert found["slope"] == pytest.approx(0.3, abs=4 * found["slope_err"])
    assert "lts cannot take the" in said(capsys, table, "--upper", "is_limit")
    assert "'G00' in rows 1, 2, 3, 4, 5 and 55 more is neither true nor false" in said(capsys, table, "--upper", "galaxy")


def test_a_selection_is_taken_by_mnr_alone_and_holds_for_every_row(table, capsys):
    code, found, _ = asked(capsys, table, "--json", "--method", "mnr", "--y-range", "0", "inf")
    assert code == 0 and found["slope"] == pytest.approx(0.3, abs=4 * found["slope_err"])
    assert "lts cannot take a selection" in said(capsys, table, "--x-range", "8", "12")
    assert "outside the range of x" in said(capsys, table, "--method", "mnr", "--x-range", "10", "inf")


@pytest.mark.parametrize("kind", [".png", ".pdf"])
def test_plot_is_drawn_of_every_kind_of_point(kind, table, tmp_path, capsys):
    changed(table, lambda t: t.__setitem__("up", t.index == 30))
    out = tmp_path / f"line{kind}"
    code, _, _ = asked(capsys, table, "--method", "mnr", "--upper", "up", "--plot", out)
    assert code == 0 and out.read_bytes()[:4] == {".png": b"\x89PNG", ".pdf": b"%PDF"}[kind]
    if kind == ".png":
        picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
        blue = (abs(picture - [0, 0x72, 0xB2]).sum(axis=-1) < 30).mean()
        assert 0.001 < blue < 0.2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.__setitem__("log_v", np.where(t.index == 4, np.inf, t["log_v"])), "column log_v: infinite in row 5"),
        (lambda t: t.__setitem__("log_v_err", np.where(t.index < 7, 0, t["log_v_err"])), "zero or negative in rows 1, 2, 3, 4, 5 and 2"),
        (lambda t: t.__setitem__("log_v_err", np.where(t.index == 9, -0.1, t["log_v_err"])), "zero or negative in row 10"),
        (lambda t: t.__setitem__("log_v", t["log_v"].astype(str).where(t.index != 2, "n.d.")), "'n.d.' is not a number (row 3)"),
        (lambda t: t.__setitem__("log_mass", 10.0), "x is 10 for all 60 points"),
        (lambda t: t.__setitem__("log_v", t["log_v"].where(t.index < 9)), "9 point(s) to fit, at least 10 are needed. Of 60 rows 51"),
        (lambda t: t.__setitem__("log_v", np.nan), "0 point(s) to fit"),
        (lambda t: t.iloc[:0], "the table has no rows"),
    ],
)
def test_what_is_wrong_in_a_table_is_one_sentence_with_its_rows(change, sentence, table, capsys):
    assert sentence in said(capsys, changed(table, change))


@pytest.mark.parametrize(
    ("options", "more", "sentence"),
    [
        ((), {"x": "log_Mass"}, "--x log_Mass: no such column; did you mean log_mass"),
        ((), {"y": "q"}, "--y q: no such column; it has galaxy, log_mass, log_v, log_v_err."),
        ((), {"errors": ("--yerr", "log_v_er")}, "--yerr log_v_er: no such column; did you mean log_v_err"),
        ((), {"errors": ("--xerr", "-0.1")}, "--xerr -0.1; an error must be a positive number"),
        ((), {"errors": ()}, "lts needs errors: --xerr, --yerr or both"),
        (("--method", "mnr"), {"errors": ()}, "mnr needs errors"),
        ((), {"x": "galaxy"}, "'G00' is not a number"),
        (("--pivot", "middle"), {}, "--pivot: 'middle' is neither a number nor 'median'"),
        (("--pivot", "nan"), {}, "--pivot: nan; a finite number"),
        (("--clip", "0"), {}, "--clip: 0; a positive number"),
        (("--seed", "-1"), {}, "--seed: -1; a number from 0"),
        (("--plot", "line.jpg"), {}, "line.jpg: a picture is written as .png or .pdf"),
    ],
)
def test_a_wrong_option_is_one_sentence(options, more, sentence, table, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert sentence in said(capsys, table, *options, **more)


def test_a_file_that_is_no_table_is_one_sentence(tmp_path, capsys):
    assert "no such file" in said(capsys, tmp_path / "none.csv")
    for name in ("broken.fits", "broken.ecsv", "broken.parquet", "broken.vot", "empty.csv"):
        path = tmp_path / name
        path.write_bytes(b"" if name == "empty.csv" else b"\x00not a table\n")
        assert name in said(capsys, path)
    (tmp_path / "notes.docx").write_text("x")
    assert "known: .csv, .tsv, .ecsv, .fits" in said(capsys, tmp_path / "notes.docx")
