"""Promises of the tools for one's own files: `tullyflow position-angle` and `tullyflow moments`."""

import errno
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import fit_wcs_from_points

from tullyflow.cli import main

SIZE = (40, 47)  # (y, x)
CENTRE = (22.4, 18.7)
PA, V_SYS = 63.0, 1234.0


def sky(rotation_deg=0.0, parity=-1.0, scale=(0.5, 0.5), centre=CENTRE):
    """Header with sky axes; north is turned counter-clockwise from +y, parity -1 has east to the left of north."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 30.0]
    wcs.wcs.crpix = [centre[0] + 1, centre[1] + 1]
    c, s = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
    wcs.wcs.cd = np.diag([parity, 1.0]) @ np.array([[c, s], [-s, c]]) @ np.diag(scale) / 3600
    return wcs.to_header()


def velocity_field(pa_deg=PA, v_sys=V_SYS, seed=3):
    """Disc (km/s) with its receding side at a position angle (north up, east left), 2 km/s of noise, ragged edges, a hole."""
    y, x = np.indices(SIZE, dtype=float)
    x, y = x - CENTRE[0], y - CENTRE[1]
    a = np.radians(pa_deg + 90)
    along, across = np.cos(a) * x + np.sin(a) * y, (np.cos(a) * y - np.sin(a) * x) / 0.6
    radius = np.hypot(along, across)
    field = v_sys + 90 * np.arctan(radius / 4) * along / np.maximum(radius, 1e-9) + np.random.default_rng(seed).normal(0, 2, SIZE)
    field[(radius > 17) | ((np.abs(x - 5) < 2) & (np.abs(y + 3) < 2))] = np.nan
    return field


def write(path, *images, header=None):
    """FITS of images by name; the first one's header has the sky axes."""
    hdus = [fits.PrimaryHDU()]
    for name, pixels in images:
        hdus.append(fits.ImageHDU(np.asarray(pixels, dtype=np.float32), header if header is not None else sky(), name=name))
        hdus[-1].header["BUNIT"] = "km/s"
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.fixture
def field(tmp_path):
    velocity = velocity_field()
    return write(tmp_path / "mine.fits", ("VELOCITY", velocity), ("ERROR", np.full(SIZE, 2.0)), ("MASK", velocity * 0))


def asked(capsys, *arguments):
    """Exit code and what was printed: the row of JSON where that is so."""
    code = main(["position-angle", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out.startswith("{") else out, err


def away(a, b):
    return abs((a - b + 180) % 360 - 180)


def test_prints_the_axis_for_a_person_and_for_a_program(field, capsys):
    code, row, _ = asked(capsys, field, "--hdu", "VELOCITY", "--error-hdu", "ERROR", "--json")
    assert code == 0
    assert away(row["pa_deg"], PA) < 3 * row["pa_err_deg"] + 0.3 and 0 < row["pa_err_deg"] < 1.5
    assert abs(row["v_sys_kms"] - V_SYS) < 4 * row["v_sys_err_kms"]
    assert row["n_spaxels"] == np.isfinite(velocity_field()).sum() and row["flags"] == ""
    code, text, _ = asked(capsys, field, "--hdu", "VELOCITY", "--error-hdu", "ERROR")
    assert f"{row['v_sys_kms']:.0f}" in text and "N through E to the receding side" in text and "flags    none" in text


def test_a_constant_error_is_said_and_an_extension_that_was_chosen_too(field, capsys):
    _, row, _ = asked(capsys, field, "--json")
    assert row["flags"] == "NO_ERROR_MAP" and "taken from VELOCITY; other images: ERROR, MASK" in row["messages"]


@pytest.mark.parametrize(("rotation", "parity"), [(0.0, 1.0), (37.0, -1.0), (211.0, 1.0)])
def test_a_mirrored_or_turned_header_is_followed(tmp_path, capsys, rotation, parity):
    image_angle = np.radians(PA + 90)
    write(tmp_path / "map.fits", ("VELOCITY", velocity_field()), header=sky(rotation, parity))
    ahead = (CENTRE[0] + np.cos(image_angle), CENTRE[1] + np.sin(image_angle))
    step = WCS(sky(rotation, parity)).wcs_pix2world([CENTRE, ahead], 0)
    east, north = (step[1] - step[0]) * [np.cos(np.radians(30)), 1]
    _, row, _ = asked(capsys, tmp_path / "map.fits", "--json")
    assert away(row["pa_deg"], np.degrees(np.arctan2(east, north))) < 1.5


def test_without_a_header_the_sky_angle_waits_for_north_up(tmp_path, capsys):
    path = write(tmp_path / "bare.fits", ("V", velocity_field()), header=fits.Header())
    code, row, _ = asked(capsys, path, "--json", "--centre", *CENTRE, "--pixel-scale", 0.5)
    assert code == 0 and row["pa_deg"] is None and "NO_WCS" in row["flags"].split(",")
    assert away(row["image_angle_deg"], PA + 90) < 1.5 and "--north-up" in row["messages"]
    _, told, _ = asked(capsys, path, "--json", "--centre", *CENTRE, "--north-up")
    assert away(told["pa_deg"], PA) < 1.5 and "NO_WCS" not in told["flags"] and "as told" in told["messages"]


def test_north_up_does_not_overrule_a_header(tmp_path, capsys):
    path = write(tmp_path / "turned.fits", ("V", velocity_field()), header=sky(37.0))
    _, row, _ = asked(capsys, path, "--json", "--north-up")
    assert away(row["pa_deg"], PA - 37) < 1.5 and "header's sky axes are used" in row["messages"]


@pytest.mark.parametrize("north_up", [(), ("--north-up",)])
def test_pixels_that_are_not_square_are_refused(tmp_path, capsys, north_up):
    path = write(tmp_path / "oblong.fits", ("V", velocity_field()), header=sky(scale=(0.5, 0.8)))
    code, row, _ = asked(capsys, path, "--json", *north_up)
    assert code == 0 and row["pa_deg"] is None and "NO_WCS" in row["flags"].split(",") and "square" in row["messages"]


def test_a_distorted_header_and_a_far_reference_pixel_change_little(tmp_path, capsys):
    header = sky()
    header.update(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=1e-5, B_0_2=-1e-5)
    path = write(tmp_path / "sip.fits", ("V", velocity_field()), header=header)
    assert away(asked(capsys, path, "--json")[1]["pa_deg"], PA) < 1.5
    far = sky(centre=(900.0, -700.0))
    path = write(tmp_path / "far.fits", ("V", velocity_field()), header=far)
    _, row, _ = asked(capsys, path, "--json", "--centre", *CENTRE)
    assert away(row["pa_deg"], PA) < 1.5
    assert "the middle of the map is taken as the centre" in asked(capsys, path, "--json")[1]["messages"]


def test_north_is_that_of_the_equator_whatever_the_header_uses(tmp_path, capsys):
    wcs = WCS(sky())
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, SIZE[1] - 1, 5), np.linspace(0, SIZE[0] - 1, 5)))
    galactic = fit_wcs_from_points((x, y), wcs.pixel_to_world(x, y).galactic, projection="TAN").to_header()
    assert galactic["CTYPE1"] == "GLON-TAN"
    path = write(tmp_path / "galactic.fits", ("V", velocity_field()), header=galactic)
    _, row, _ = asked(capsys, path, "--json", "--centre", *CENTRE)
    assert away(row["pa_deg"], PA) < 1.5


def test_radio_velocities_become_optical_and_a_rest_frame_is_said(tmp_path, capsys):
    header = sky()
    header.update(CTYPE3="VRAD", SPECSYS="LSRK", VELREF=257)
    path = write(tmp_path / "co.fits", ("V", velocity_field(v_sys=5000.0)), header=header)
    _, row, _ = asked(capsys, path, "--json")
    assert row["v_sys_kms"] == pytest.approx(5000 / (1 - 5000 / 299792.458), abs=2) and "made optical" in row["messages"]
    assert "LSRK by their header: v_sys is not heliocentric" in row["messages"]


def test_inverse_variances_and_other_units_of_the_error_are_understood(tmp_path, capsys):
    velocity, err = velocity_field(), np.full(SIZE, 2.0)
    err[:20] = 4.0
    path = write(tmp_path / "map.fits", ("V", velocity), ("E", err), ("V_IVAR", err**-2.0), ("BAD_IVAR", np.where(err > 3, 0, err**-2.0)))
    with fits.open(path, mode="append") as hdus:
        hdus.append(fits.ImageHDU(err * 1000, name="METRES"))
        hdus[-1].header["BUNIT"] = "m/s"
    rows = {name: asked(capsys, path, "--json", "--hdu", "V", "--error-hdu", name)[1] for name in ("E", "V_IVAR", "BAD_IVAR", "METRES")}
    for name in ("V_IVAR", "METRES"):
        assert [rows[name][k] for k in ("pa_deg", "pa_err_deg", "n_spaxels")] == [
            rows["E"][k] for k in ("pa_deg", "pa_err_deg", "n_spaxels")
        ]
    assert "inverse variances" in rows["V_IVAR"]["messages"] and "variances" not in rows["E"]["messages"]
    assert rows["BAD_IVAR"]["n_spaxels"] == np.isfinite(velocity[20:]).sum()  # no weight is no value
    assert "velocities have an error that is not positive" in rows["BAD_IVAR"]["messages"]


def test_a_guessed_centre_that_matters_is_said(tmp_path, capsys):
    path = write(tmp_path / "off.fits", ("V", velocity_field()), header=sky(centre=(CENTRE[0] - 5, CENTRE[1] + 3)))
    assert "The centre is a guess and matters" in asked(capsys, path, "--json")[1]["messages"]
    told = asked(capsys, path, "--json", "--centre", *CENTRE)[1]
    assert "guess" not in told["messages"] and away(told["pa_deg"], PA) < 1.5


def test_a_guess_without_partners_gives_way_to_the_middle_of_the_pixels(tmp_path, capsys):
    header = sky(centre=(CENTRE[0] + 23, CENTRE[1] - 8))
    wide = np.pad(velocity_field(), ((0, 0), (0, 30)), constant_values=np.nan)
    path = write(tmp_path / "side.fits", ("V", wide), header=header)
    _, row, _ = asked(capsys, path, "--json")
    assert away(row["pa_deg"], PA) < 3 and row["messages"].count("is used") == 1 and "--fit-centre" in row["messages"]
    assert "is taken as the centre" not in row["messages"]
    _, fitted, _ = asked(capsys, path, "--json", "--fit-centre")
    assert away(fitted["pa_deg"], PA) < 1.5 and "Kinematic centre" in fitted["messages"]
    assert "is taken as the centre" not in fitted["messages"]
    _, told, _ = asked(capsys, path, "--json", "--centre", CENTRE[0] + 23, CENTRE[1] - 8)
    assert told["pa_deg"] is None  # who gives a centre is obeyed


def test_a_plane_is_named_by_its_number_or_its_line(tmp_path, capsys):
    velocity, header = velocity_field(), sky()
    header.update(C01="OII-3727", C02="Ha-6564", C03="SII-6732")
    err, bad = np.full(SIZE, 2.0), np.zeros(SIZE)
    err[:20], bad[:, :12] = 4.0, 1

    def planes(image, other):
        return np.stack([other, image, other])

    flat = write(tmp_path / "flat.fits", ("V", velocity), ("V_IVAR", err**-2), ("V_MASK", bad))
    deep = write(
        tmp_path / "deep.fits", ("V", planes(velocity, velocity_field(200.0))), ("V_IVAR", planes(err**-2, 1 + 0 * err)),
        ("V_MASK", planes(bad, 1 - bad)), header=header,
    )  # fmt: skip
    named = ("--hdu", "V", "--error-hdu", "V_IVAR", "--mask-hdu", "V_MASK", "--json")
    wanted = asked(capsys, flat, *named)[1]
    wanted |= {"galaxy": "deep", "messages": wanted["messages"].replace("flat", "deep")}
    for plane in ("2", "Ha-6564"):
        assert asked(capsys, deep, *named, "--plane", plane)[1] == wanted
    (tmp_path / "table.csv").write_text("galaxy,velocity,velocity_hdu,velocity_err_hdu\ndeep,deep.fits,V,V_IVAR\n")
    assert asked(capsys, "--catalogue", tmp_path / "table.csv", "--out", tmp_path / "out.csv", "--plane", "Ha-6564")[0] == 0
    assert away(pd.read_csv(tmp_path / "out.csv").pa_deg[0], PA) < 1.5


def test_no_errors_are_said_once_and_those_of_the_file_are_pointed_at(tmp_path, capsys):
    ones = np.ones(SIZE)
    path = write(tmp_path / "map.fits", ("MOM0_ERR", ones), ("V", velocity_field()), ("V_ERR", ones), ("V_MASK", ones))
    _, text, _ = asked(capsys, path, "--hdu", "V")
    assert text.count("rror map") + text.count("No velocity errors") == 1 and "5 km/s everywhere" in text
    assert "--error-hdu V_ERR?" in text and "MOM0_ERR?" not in text
    assert "--error-hdu" not in asked(capsys, path, "--hdu", "V", "--error-hdu", "V_ERR")[1]
    small = write(tmp_path / "small.fits", ("V", velocity_field()), ("V_ERR", np.ones((5, 6))))
    assert "--error-hdu" not in asked(capsys, small, "--hdu", "V")[1]


def test_nonsense_values_are_left_out(tmp_path, capsys):
    velocity = velocity_field()
    clean = asked(capsys, write(tmp_path / "clean.fits", ("V", velocity)), "--json")[1]
    spoiled = velocity.copy()
    spoiled[np.isnan(velocity)] = np.resize([np.inf, -np.inf, 1e20, -1e20], np.isnan(velocity).sum())
    row = asked(capsys, write(tmp_path / "spoiled.fits", ("V", spoiled)), "--json")[1]
    assert [row[name] for name in ("pa_deg", "v_sys_kms", "n_spaxels")] == [clean[name] for name in ("pa_deg", "v_sys_kms", "n_spaxels")]


@pytest.mark.parametrize("blank", [0.0, -999.0])
def test_blank_values_are_left_out_when_named(tmp_path, capsys, blank):
    velocity = velocity_field()
    clean = asked(capsys, write(tmp_path / "clean.fits", ("V", velocity)), "--json")[1]
    path = write(tmp_path / "blank.fits", ("V", np.nan_to_num(velocity, nan=blank)))
    row = asked(capsys, path, "--json", "--blank", 0, -999)[1]
    assert row["pa_deg"] == clean["pa_deg"] and row["n_spaxels"] == clean["n_spaxels"]
    assert asked(capsys, path, "--json")[1]["n_spaxels"] > clean["n_spaxels"]


@pytest.mark.parametrize(
    ("pixels", "flag"),
    [
        (np.full(SIZE, 87.3), "PA_FAILED"),
        (np.full((1, 1), 87.3), "PA_FAILED"),
        (np.full(SIZE, np.nan), "NO_VALID_PIXEL"),
        (np.full(SIZE, np.inf), "NO_VALID_PIXEL"),
    ],
    ids=["constant", "one pixel", "empty", "inf"],
)  # fmt: skip
def test_a_map_without_an_axis_is_flagged(tmp_path, capsys, pixels, flag):
    path = write(tmp_path / "map.fits", ("V", pixels))
    code, row, _ = asked(capsys, path, "--json", "--plot", tmp_path / "map.png")
    assert code == 0 and flag in row["flags"].split(",") and row["messages"]
    assert row["pa_deg"] is None or row["pa_err_deg"] > 45
    assert (tmp_path / "map.png").stat().st_size > 5000
    assert "not defined" in asked(capsys, path)[1] or row["pa_err_deg"] > 45


def test_masked_pixels_do_not_count(tmp_path, capsys):
    velocity, bad = velocity_field(), np.zeros(SIZE)
    bad[:, :20] = 1
    path = write(tmp_path / "map.fits", ("V", np.where(bad > 0, 5000.0 + 40 * bad.cumsum(axis=0), velocity)), ("BAD", bad))
    _, row, _ = asked(capsys, path, "--json", "--hdu", "V", "--mask-hdu", "BAD", "--centre", *CENTRE)
    assert row["n_spaxels"] == np.isfinite(velocity[:, 20:]).sum() and away(row["pa_deg"], PA) < 4


def test_the_stars_have_their_own_axis(tmp_path, capsys):
    path = write(tmp_path / "both.fits", ("GAS", velocity_field()), ("STARS", velocity_field(PA + 170, v_sys=1250.0, seed=5)))
    _, row, _ = asked(capsys, path, "--json", "--hdu", "GAS", "--stars", "STARS")
    assert away(row["pa_stellar_deg"], PA + 170) < 1.5
    assert abs(row["delta_pa_deg"] - 170) < 3 and row["delta_pa_err_deg"] > row["pa_err_deg"]
    assert "between gas and stars" in asked(capsys, path, "--stars", "STARS", "--plot", tmp_path / "both.png")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{field}", "--hdu", "NOPE"], "no image extension 'NOPE'; there are PRIMARY, VELOCITY, ERROR, MASK"),
        (["{field}", "--hdu", "17"], "no image extension '17'"),
        (["{field}", "--error-hdu", "NOPE"], "there are PRIMARY, VELOCITY, ERROR, MASK"),
        (["{field}", "--error", "{small}"], "has (5, 6) pixels, the velocity (40, 47)"),
        (["{field}", "--mask", "{small}"], "the mask has (5, 6) pixels, the velocity (40, 47)"),
        (["{field}", "--error", "{field}"], "--error-hdu"),
        (["{field}", "--centre", "70", "3"], "outside the map of 47 x 40 pixels"),
        (["{field}", "--plot", "map.jpg"], ".png or .pdf"),
        (["{field}", "--pixel-scale", "-1"], "positive number"),
        (["{field}", "--out", "a.csv"], "--catalogue"),
        (["{text}"], "truncated or not FITS"),
        (["{cube}"], "name one of the 4 planes to tullyflow position-angle by its number from 1, e.g. --plane 1."),
        (["{cube}", "--plane", "5"], "C has planes 1 to 4, plane 5 is needed"),
        (["{cube}", "--plane", "0"], "C has planes 1 to 4, plane 0 is needed"),
        (["{cube}", "--plane", "Ha-6564"], "0 channels of C are called Ha-6564"),
        (["{lines}"], "one of the 2 planes to tullyflow position-angle by its number from 1 or its line, e.g. --plane Ha-6564."),
        (["{spectral}"], "a map has two (of a cube: tullyflow moments)"),
        (["nowhere.fits"], "nowhere.fits: no such file"),
        ([], "give one velocity map"),
        (["{field}", "--catalogue", "{text}"], "give one velocity map"),
        (["--catalogue", "nowhere.csv", "--out", "a.csv"], "no such file"),
        (["--catalogue", "{text}"], "--out"),
        (["--catalogue", "{text}", "--out", "a.fits"], ".csv or .parquet"),
        (["--catalogue", "{text}", "--out", "a.csv"], "column(s) galaxy missing; found name, file"),
        (["--catalogue", "{text}", "--out", "a.csv", "--error", "{field}"], "--error is for one FILE"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path, field, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("name,file\na,b.fits\n")
    places = {
        "field": field, "text": tmp_path / "table.csv", "small": write(tmp_path / "small.fits", ("E", np.ones((5, 6)))),
        "cube": write(tmp_path / "cube.fits", ("C", np.ones((4, 5, 6)))),
        "lines": write(tmp_path / "lines.fits", ("C", np.ones((2, 5, 6))), header=fits.Header({"C01": "OII-3727", "C02": "Ha-6564"})),
        "spectral": write(tmp_path / "spectral.fits", ("C", np.ones((4, 5, 6))), header=fits.Header({"CTYPE3": "VRAD"})),
    }  # fmt: skip
    code, out, err = asked(capsys, *(text.format(**places) for text in arguments))
    assert code == 2 and said in err and err.count("\n") == 1 and "Traceback" not in err
    assert not out or "--plot" in arguments
    assert not (tmp_path / "a.csv").exists()


def test_bad_maps_of_a_table_are_flagged_one_by_one(tmp_path, capsys):
    velocity, expected = velocity_field(), {}
    bad = {
        "bare": (velocity, fits.Header(), "NO_WCS"), "oblong": (velocity, sky(scale=(0.5, 0.8)), "NO_WCS"),
        "constant": (np.full(SIZE, 87.3), None, "PA_FAILED"), "pixel": (np.full((1, 1), 87.3), None, "PA_FAILED"),
        "inf": (np.full(SIZE, np.inf), None, "NO_VALID_PIXEL"), "huge": (np.full(SIZE, 1e20), None, "NO_VALID_PIXEL"),
        "blank": (np.full(SIZE, -999.0), None, "NO_VALID_PIXEL"), "cube": (np.ones((4, 5, 6)), None, "MISSING_HDU"),
    }  # fmt: skip
    for name, (pixels, header, flag) in bad.items():
        write(tmp_path / f"{name}.fits", ("V", pixels), header=header)
        expected[name] = flag
    write(tmp_path / "small.fits", ("E", np.ones((5, 6))))
    write(tmp_path / "wrong.fits", ("V", velocity))
    table = pd.DataFrame({"galaxy": [*bad, "wrong"]}).assign(velocity=lambda t: t.galaxy + ".fits", velocity_err="")
    table.loc[table.galaxy == "wrong", "velocity_err"] = "small.fits"
    table.to_csv(tmp_path / "galaxies.csv", index=False)
    code, _, err = asked(capsys, "--catalogue", tmp_path / "galaxies.csv", "--out", tmp_path / "out.csv", "--blank", -999)
    found = pd.read_csv(tmp_path / "out.csv").set_index("galaxy")
    assert code == 0 and "Traceback" not in err and list(found.index) == list(table.galaxy)
    for name, flag in {**expected, "wrong": "MISSING_HDU"}.items():
        assert flag in found.loc[name, "flags"].split(",") and found.messages[name].rstrip().endswith("."), name
        assert np.isnan(found.pa_deg[name]) or found.pa_err_deg[name] > 45, name


@pytest.mark.parametrize(
    "arguments", [("position-angle", "--hdu", "VELOCITY", "--plot", "{file}/map.png"), ("moments", "--out", "{file}/made")]
)
def test_a_place_that_cannot_be_written_is_one_sentence(field, cube, capsys, arguments):
    tool, *options = (text.format(file=field) for text in arguments)
    code = main([tool, str(field if tool == "position-angle" else cube[0]), *options])
    out, err = capsys.readouterr()
    assert code == 2 and f"{field} is a file; name a folder" in err and err.count("\n") == 1 and not out  # said before the work


def test_a_folder_that_is_read_only_is_said_before_the_work(field, tmp_path, capsys, monkeypatch):
    from tullyflow import cli_tools

    monkeypatch.setattr(cli_tools.os, "access", lambda place, _: place != tmp_path)
    code, out, err = asked(capsys, field, "--plot", tmp_path / "new" / "axis.png")
    assert code == 2 and f"{tmp_path} cannot be written to" in err and not out
    (tmp_path / "table.csv").write_text("galaxy,velocity\na,b.fits\n")
    code, _, err = asked(capsys, "--catalogue", tmp_path / "table.csv", "--out", tmp_path / "out.csv")
    assert code == 2 and f"{tmp_path} cannot be written to" in err


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_names_the_file_that_was_asked_for(field, tmp_path, capsys, monkeypatch, named):
    from matplotlib.figure import Figure

    def full(self, part, **_):
        raise OSError(errno.ENOSPC, "No space left on device", *([str(part)] if named else []))

    monkeypatch.setattr(Figure, "savefig", full)
    code, _, err = asked(capsys, field, "--plot", tmp_path / "axis.png")
    assert code == 2 and err.splitlines()[-1].endswith(f"{tmp_path / 'axis.png'}: No space left on device.")


@pytest.fixture
def table(tmp_path):
    """Five galaxies: good, stars too, a file that is missing, one that is torn, one that does not turn."""
    for name, pa in (("one", PA), ("two", 300.0)):
        write(tmp_path / f"{name}.fits", ("VELOCITY", velocity_field(pa)), ("STARS", velocity_field(pa + 20, seed=8)))
    (tmp_path / "torn.fits").write_bytes((tmp_path / "one.fits").read_bytes()[:4000])
    write(tmp_path / "still.fits", ("VELOCITY", np.full(SIZE, 12.0)))
    names = ["one", "two", "gone", "torn", "still"]
    path = tmp_path / "galaxies.csv"
    rows = {"galaxy": names, "velocity": [f"{name}.fits" for name in names], "stellar_velocity_hdu": ["", "STARS", "", "", "STARS"]}
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_a_table_keeps_every_row(table, tmp_path, capsys, caplog):
    code, out, _ = asked(capsys, "--catalogue", table, "--out", tmp_path / "out.csv", "--hdu", "VELOCITY", "--threads", 2)
    assert code == 0 and out == "" and "5 galaxies, 2 with a position angle" in caplog.text
    found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False, na_values={name: [""] for name in ("pa_deg", "delta_pa_deg")})
    assert list(found.columns[:7]) == ["galaxy", "pa_deg", "pa_err_deg", "v_sys_kms", "v_sys_err_kms", "n_spaxels", "flags"]
    found = found.set_index("galaxy")
    assert list(found.index) == ["one", "two", "gone", "torn", "still"]
    assert away(found.pa_deg["one"], PA) < 1.5 and away(found.pa_deg["two"], 300) < 1.5
    assert found.delta_pa_deg["two"] == pytest.approx(20, abs=2) and np.isnan(found.delta_pa_deg["one"])
    assert found.loc["gone", "flags"] == "MISSING_FILE" and str(tmp_path / "gone.fits") in found.loc["gone", "messages"]
    assert found.loc["torn", "flags"] in ("UNREADABLE_FILE", "MISSING_HDU")
    assert "PA_FAILED" in found.loc["still", "flags"] and "no image extension 'STARS'" in found.loc["still", "messages"]
    assert (found.loc[["gone", "torn", "still"], "messages"] != "").all()


def test_one_file_and_a_table_agree(table, tmp_path, capsys):
    asked(capsys, "--catalogue", table, "--out", tmp_path / "out.csv", "--hdu", "VELOCITY", "--stars", "STARS")
    row = pd.read_csv(tmp_path / "out.csv").iloc[1]
    _, alone, _ = asked(capsys, tmp_path / "two.fits", "--json", "--hdu", "VELOCITY", "--stars", "STARS")
    for name in ("pa_deg", "pa_err_deg", "v_sys_kms", "v_sys_err_kms", "n_spaxels", "pa_stellar_deg", "delta_pa_deg", "delta_pa_err_deg"):
        assert row[name] == alone[name], name


def test_real_maps_of_gas_and_stars_are_read_as_they_are(shared, capsys):
    path = shared / "mirror" / "manga_velocity_fields" / "10001" / "10001-12701.fits.gz"
    _, row, _ = asked(capsys, path, "--hdu", "VELOCITY", "--stars", "STELLAR_VELOCITY", "--json")
    assert away(row["pa_deg"], 61.0) < 3 and away(row["pa_stellar_deg"], 79.5) < 20  # Duckworth+2019, by eye


def test_help_is_quick_and_imports_nothing_heavy():
    code = "import sys; from tullyflow.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('numpy', 'astropy', 'pandas', 'torch', 'matplotlib', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]") and "position-angle" in done.stdout and "moments" in done.stdout


@pytest.fixture
def cube(tmp_path):
    """Cube (channel, y, x) of a turning disc, 8 km/s channels, radio beam of 3 pixels, noise 0.01 Jy/beam; and its flux (Jy km/s)."""
    channel = 1000.0 + 8.0 * np.arange(48)
    field = np.nan_to_num(velocity_field(v_sys=1180.0), nan=-1e4)
    line = np.where(field > 0, 0.2, 0.0) * np.exp(-0.5 * ((channel[:, None, None] - field) / 14) ** 2)
    header = sky()
    header.update(CTYPE3="VOPT", CRVAL3=1000.0, CDELT3=8.0, CRPIX3=1.0, CUNIT3="km/s", BUNIT="JY/BEAM", SPECSYS="BARYCENT", OBJECT="TOY",
                  BMAJ=1.5 / 3600, BMIN=1.5 / 3600, BPA=0.0)  # fmt: skip
    noise = np.random.default_rng(1).normal(0, 0.01, line.shape)
    fits.PrimaryHDU((line + noise).astype(np.float32), header).writeto(tmp_path / "toy.fits")
    return tmp_path / "toy.fits", line.sum() * 8.0 / (np.pi / (4 * np.log(2)) * 3.0**2)


def test_moments_of_a_cube_are_written_whole_and_lead_to_its_axis(cube, tmp_path, capsys):
    path, _ = cube
    assert main(["moments", str(path), "--out", str(tmp_path / "made")]) == 0
    made = tmp_path / "made" / "toy-moments.fits"
    assert (tmp_path / "made" / "toy-moments.png").stat().st_size > 20_000
    with fits.open(made, checksum=True) as hdus:
        units = {hdu.name: hdu.header.get("BUNIT") for hdu in hdus[1:]}
        assert units == {
            "MOM0": "JY/BEAM km/s", "MOM0_ERR": "JY/BEAM km/s", "MOM1": "km/s", "MOM1_ERR": "km/s", "MOM2": "km2/s2",
            "MOM2_ERR": "km2/s2", "DISPERSION": "km/s", "DISPERSION_ERR": "km/s", "MASK": None,
        }  # fmt: skip
        assert hdus[0].header["CREATOR"].startswith("tullyflow") and hdus[0].header["CUBE"] == "toy.fits"
        assert hdus["MOM1"].header["CTYPE1"] == "RA---TAN" and hdus["MOM1"].header["OBJECT"] == "TOY"
        good = hdus["MASK"].data == 0
        assert np.isfinite(hdus["MOM1"].data[good]).all() and np.isnan(hdus["MOM1"].data[~good]).all()
        true = velocity_field(v_sys=1180.0)
        pulls = ((hdus["MOM1"].data - true) / hdus["MOM1_ERR"].data)[good & np.isfinite(true)]
        assert abs(np.median(pulls)) < 0.3
        dispersion, square = hdus["DISPERSION"].data, hdus["MOM2"].data
        assert np.nanmedian(dispersion[good & np.isfinite(true)]) == pytest.approx(14, abs=2)
        np.testing.assert_array_equal(np.isnan(dispersion), ~(square > 0))  # noise may make it negative: no dispersion, never 0
    capsys.readouterr()
    _, row, _ = asked(capsys, made, "--hdu", "MOM1", "--error-hdu", "MOM1_ERR", "--json")
    assert away(row["pa_deg"], PA) < 2 and abs(row["v_sys_kms"] - 1180) < 4 * row["v_sys_err_kms"]


def test_moments_of_an_lsr_cube_say_that_they_are_heliocentric(cube, tmp_path, capsys):
    with fits.open(cube[0], mode="update") as hdus:
        hdus[0].header["SPECSYS"] = "LSRK"
    main(["moments", str(cube[0]), "--out", str(tmp_path)])
    made = tmp_path / "toy-moments.fits"
    assert fits.getheader(made, "MOM1")["SPECSYS"] == "HELIOCEN" and fits.getheader(made, "MOM1")["BMAJ"] == pytest.approx(1.5 / 3600)
    capsys.readouterr()
    _, row, _ = asked(capsys, made, "--hdu", "MOM1", "--error-hdu", "MOM1_ERR", "--json")
    assert "LSR" not in row["messages"] and 1 < abs(row["v_sys_kms"] - 1180) < 20


def test_the_spectrum_holds_the_cubes_flux(cube):
    from tullyflow.maps.cube_file import CubeFile
    from tullyflow.maps.moments import moments_from_cube
    from tullyflow.settings import Maps
    from tullyflow.tools.line_moments import line_spectrum

    path, flux = cube
    with CubeFile(path) as channels:
        spectrum = line_spectrum(channels, moments_from_cube(path, Maps()))
    assert spectrum.unit == "Jy" and spectrum.velocity_kms[[0, -1]] == pytest.approx([1000, 1376])
    err = np.hypot.reduce(spectrum.flux_err) * 8
    assert abs(spectrum.flux.sum() * 8 - flux) < 3 * err and err < 0.05 * flux


@pytest.mark.parametrize(
    ("name", "said"),
    [("flat.fits", "a cube has three longer than one"), ("text.fits", "truncated or not FITS"), ("nowhere.fits", "no such file"),
     ("silent.fits", "no line was found"), ("blind.fits", "no axis of frequency or velocity")],
)  # fmt: skip
def test_what_is_no_cube_is_one_sentence(cube, tmp_path, capsys, name, said):
    header = fits.getheader(cube[0])
    write(tmp_path / "flat.fits", ("V", velocity_field()))
    (tmp_path / "text.fits").write_text("no cube")
    fits.PrimaryHDU(np.random.default_rng(2).normal(0, 1, (12, *SIZE)).astype(np.float32), header).writeto(tmp_path / "silent.fits")
    header["CTYPE3"] = "STOKES"
    fits.PrimaryHDU(np.ones((12, *SIZE), dtype=np.float32), header).writeto(tmp_path / "blind.fits")
    code = main(["moments", str(tmp_path / name), "--out", str(tmp_path / "made")])
    err = capsys.readouterr().err
    assert code == 2 and said in err and err.count("\n") == 1 and not list(tmp_path.glob("made/*"))
