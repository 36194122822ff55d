"""Promises of `tullyflow galaxy`: from one file to a page that opens offline, its numbers, and its model on the sky."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from astropy.wcs import WCS

from tullyflow.cli import main
from tullyflow.conventions import rest_frame_factor
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.calibration import identity
from tullyflow.network.checkpoint import Checkpoint, save_checkpoint
from tullyflow.report.figures.galaxy import plot_galaxy
from tullyflow.report.galaxy import GalaxyView
from tullyflow.settings import parse_settings

SIZE, CENTRE, V_SYS, SCALE = (44, 47), (22.4, 20.7), 1234.0, 0.5  # (y, x), (x, y), km/s, arcsec


def sky(rotation_deg=25.0, parity=-1.0):
    """Header with sky axes; north is turned from +y, parity -1 has east to the left of north."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 30.0]
    wcs.wcs.crpix = [CENTRE[0] + 1, CENTRE[1] + 1]
    c, s = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
    wcs.wcs.cd = np.diag([parity, 1.0]) @ np.array([[c, s], [-s, c]]) * SCALE / 3600
    return wcs.to_header()


def disc(image_angle_deg=153.0):
    """Velocity (km/s) and intensity (y, x) of a disc with a one-sided arm, ragged edges and a hole."""
    y, x = np.indices(SIZE, dtype=float)
    x, y = x - CENTRE[0], y - CENTRE[1]
    a = np.radians(image_angle_deg)
    along, across = np.cos(a) * x + np.sin(a) * y, (np.cos(a) * y - np.sin(a) * x) / 0.6
    radius = np.hypot(along, across)
    rng = np.random.default_rng(3)
    velocity = V_SYS + 90 * np.arctan(radius / 4) * along / np.maximum(radius, 1e-9) + rng.normal(0, 2, SIZE)
    intensity = 40 * np.exp(-radius / 6) * (1 + 0.4 * (along > 3)) + rng.normal(0, 0.3, SIZE)
    bad = (radius > 18) | ((np.abs(x - 5) < 2) & (np.abs(y + 3) < 2))
    return np.where(bad, np.nan, velocity), intensity


def write(path, header=None, **images):
    hdus = [fits.PrimaryHDU()]
    for name, pixels in images.items():
        hdus.append(fits.ImageHDU(np.asarray(pixels, dtype=np.float32), sky() if header is None else header, name=name))
        hdus[-1].header["BUNIT"] = "1e-17 erg/s/cm2" if name == "FLUX" else "km/s"
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A network that was never trained: its numbers are of no worth, their way to the page is that of any other."""
    settings = parse_settings({"network": {"samples": 20}})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = DiscAutoencoder(settings.network)
    folder = tmp_path_factory.mktemp("weights")
    save_checkpoint(Checkpoint(model, identity(), (), "random"), folder, 3)
    return folder


@pytest.fixture
def field(tmp_path):
    velocity, intensity = disc()
    return write(tmp_path / "mine.fits", VELOCITY=velocity, ERROR=np.full(SIZE, 2.0), FLUX=intensity)


def galaxy(*arguments) -> int:
    return main(["galaxy", *map(str, arguments)])


MAPS = ("--hdu", "VELOCITY", "--error-hdu", "ERROR", "--intensity-hdu", "FLUX", "--psf", 1.5)


def test_a_page_stands_alone_and_links_to_what_is_there(field, weights, tmp_path, capsys):
    assert galaxy(field, "--weights", weights, "--out", tmp_path / "out", *MAPS) == 0
    folder = tmp_path / "out/mine"
    assert sorted(p.name for p in folder.iterdir()) == ["figure.png", "index.html", "model.fits", "parameters.csv", "parameters.json"]
    page = (folder / "index.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(a.startswith(("data:", "#")) or (folder / a).is_file() for a in addresses) and "http" not in page
    assert "<style>" in page and "--paper" in page and "km/s" in page
    assert "An eye would use this velocity field with probability" in page and re.search("kappa (= |of )[01]\\.\\d\\d", page)
    table = pd.read_csv(folder / "parameters.csv").set_index("parameter")
    row = json.loads((folder / "parameters.json").read_text())
    assert row["v_max_kms"] == pytest.approx(table.loc["v_max_kms", "value"]) and table.loc["v_max_kms", "unit"] == "km/s"
    assert table.loc["inclination_used_deg", "err"] == pytest.approx(row["inclination_used_err_deg"])
    assert row["v_re_kms_err"] > 0 and row["pa_stellar_deg"] is None
    printed = capsys.readouterr().out
    assert f"{row['v_max_kms']:.1f} +- {row['v_max_kms_err']:.1f} km/s, V_max" in printed and str(folder / "index.html") in printed


@pytest.mark.parametrize(("rotation", "parity"), [(25.0, -1.0), (25.0, 1.0), (200.0, -1.0)])
def test_stamp_pixels_lie_where_the_sky_axes_say(weights, tmp_path, rotation, parity):
    header, (velocity, intensity) = sky(rotation, parity), disc()
    path = write(tmp_path / "turned.fits", header, VELOCITY=velocity, ERROR=np.full(SIZE, 2.0), FLUX=intensity)
    assert galaxy(path, "--weights", weights, "--out", tmp_path, *MAPS) == 0
    with fits.open(tmp_path / "turned/model.fits", checksum=True) as hdus:
        data, model, residual = (hdus[name].data for name in ("VELOCITY", "MODEL_VELOCITY", "RESIDUAL_VELOCITY"))
        np.testing.assert_allclose(residual, data - model, atol=1e-3)
        units = {hdu.name: hdu.header.get("BUNIT") for hdu in hdus[1:-1]}
        assert units["MODEL_VELOCITY"] == units["RESIDUAL_VELOCITY"] == "km/s"
        assert units["MODEL_INTENSITY"] == units["INTENSITY"] == "1e-17 erg/s/cm2"
        light, v_sys, wcs = hdus["INTENSITY"].data, hdus[0].header["VSYS"], WCS(hdus["VELOCITY"].header)
        assert hdus["CURVE"].columns["v_rot_p50"].unit == "km/s"
    rows, columns = np.nonzero(np.isfinite(data))
    x, y = WCS(header).wcs_world2pix(wcs.wcs_pix2world(np.c_[columns, rows], 0), 0).T
    near = np.round([y, x]).astype(int)
    native, native_light = velocity[tuple(near)], intensity[tuple(near)]
    assert np.nanmedian(np.abs(data[rows, columns] * rest_frame_factor(v_sys) + v_sys - native)) < 4, "another pixel of the sky"
    assert np.corrcoef(light[rows, columns], native_light)[0, 1] > 0.97, "the arm is on the other side"


def test_velocity_alone_uses_the_photometry_it_is_given(field, weights, tmp_path, capsys):
    arguments = (field, "--weights", weights, "--out", tmp_path, "--hdu", "VELOCITY", "--error-hdu", "ERROR", "--json")
    assert galaxy(*arguments, "--axis-ratio", 0.6, "--r-e", 8.0) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["inclination_kind"] == "photometric" and row["inclination_used_deg"] == pytest.approx(row["inclination_phot_deg"])
    table = pd.read_csv(tmp_path / "mine/parameters.csv").set_index("parameter")
    assert table.loc["r_scale_arcsec", "value"] == pytest.approx(8.0 / 1.678, rel=1e-3), "the scale length is the catalogue's"
    assert "from the photometry" in table.loc["inclination_used_deg", "description"]
    assert galaxy(*arguments) == 0
    row = json.loads(capsys.readouterr().out)
    assert {"NO_PHOTOMETRY", "NOT_INFERRED"} <= set(row["flags"].split(",")) and row["v_max_kms"] is None
    page = (tmp_path / "mine/index.html").read_text()
    assert "No disc could be inferred" in page and "The map as it came" in page and "the stamp (FITS)" in page


@pytest.mark.parametrize(("spoil", "flag"), [
    (lambda v: v * np.nan, "NO_VALID_PIXEL"),
    (lambda v: np.where(np.indices(SIZE)[0] == 20, v, np.nan), "TOO_FEW_PIXELS"),
    (lambda v: np.where(np.isfinite(v), 1000.0, np.nan), "PA_FAILED"),
])  # fmt: skip
def test_a_galaxy_that_cannot_be_used_has_a_page_that_says_why(weights, tmp_path, capsys, spoil, flag):
    velocity, intensity = disc()
    path = write(tmp_path / "spoilt.fits", VELOCITY=spoil(velocity), ERROR=np.full(SIZE, 2.0), FLUX=intensity)
    assert galaxy(path, "--weights", weights, "--out", tmp_path, "--json", *MAPS) == 0
    row = json.loads(capsys.readouterr().out)
    assert flag in row["flags"].split(",")
    page = (tmp_path / "spoilt/index.html").read_text()
    assert ("no velocity field to judge" in page) == (row["usable_prob"] is None)
    assert row["sentences"].split(". ")[0] in page and (tmp_path / "spoilt/figure.png").stat().st_size > 5000


def test_without_sky_axes_the_model_has_offsets_or_north_as_told(weights, tmp_path, capsys):
    velocity, intensity = disc()
    path = write(tmp_path / "bare.fits", fits.Header(), VELOCITY=velocity, ERROR=np.full(SIZE, 2.0), FLUX=intensity)
    asked = (path, "--weights", weights, "--out", tmp_path, "--json", "--centre", *CENTRE, *MAPS)
    assert galaxy(*asked) == 0
    assert "--pixel-scale" in json.loads(capsys.readouterr().out)["messages"]
    assert galaxy(*asked, "--pixel-scale", SCALE) == 0
    row = json.loads(capsys.readouterr().out)
    header = fits.getheader(tmp_path / "bare/model.fits", "MODEL_VELOCITY")
    assert header["CTYPE1"] == "MAJOR" and row["pa_deg"] is None and row["v_max_kms"] > 0 and "NO_WCS" in row["flags"]
    assert galaxy(*asked, "--pixel-scale", SCALE, "--north-up") == 0
    row = json.loads(capsys.readouterr().out)
    wcs = WCS(fits.getheader(tmp_path / "bare/model.fits", "MODEL_VELOCITY"))
    ahead = wcs.wcs_pix2world([[41.5, 31.5]], 0)[0] - wcs.wcs_pix2world([[31.5, 31.5]], 0)[0]
    assert wcs.wcs.ctype[0] == "EAST" and "as told" in row["messages"]
    assert np.degrees(np.arctan2(*ahead)) % 360 == pytest.approx(row["pa_deg"], abs=0.1) == pytest.approx(153.0 - 90, abs=3)


def test_a_guessed_centre_that_matters_is_said(weights, tmp_path, capsys):
    header, (velocity, intensity) = sky(), disc()
    header["CRPIX1"] += 6
    path = write(tmp_path / "off.fits", header, VELOCITY=velocity, ERROR=np.full(SIZE, 2.0), FLUX=intensity)
    for options, matters in (((), True), (("--centre", *CENTRE), False), (("--fit-centre",), False)):
        assert galaxy(path, "--weights", weights, "--out", tmp_path, "--json", *MAPS, *options) == 0
        assert ("centre is a guess and matters" in json.loads(capsys.readouterr().out)["messages"]) is matters, options


def test_a_cube_becomes_a_page_and_options_of_maps_are_refused(weights, tmp_path, capsys):
    velocity, intensity = disc()
    channels = V_SYS + 20.0 * (np.arange(24) - 11.5)
    rng = np.random.default_rng(5)
    line = np.exp(-0.5 * ((channels[:, None, None] - velocity) / 20) ** 2)
    cube = np.nan_to_num(line) * intensity + rng.normal(0, 0.5, (24, *SIZE))
    header = sky()
    header.update({"CTYPE3": "VOPT", "CUNIT3": "m/s", "CRVAL3": channels[0] * 1e3, "CRPIX3": 1.0, "CDELT3": 2e4})
    header.update({"BUNIT": "Jy/beam", "BMAJ": 1.5 / 3600, "BMIN": 1.5 / 3600, "BPA": 0.0})
    fits.writeto(tmp_path / "cube.fits", cube.astype(np.float32), header)
    assert galaxy(tmp_path / "cube.fits", "--weights", weights, "--out", tmp_path, "--json", "--centre", *CENTRE) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["v_max_kms"] > 0 and row["v_sys_kms"] == pytest.approx(V_SYS, abs=15) and row["outer_dispersion_kms"] > 0
    assert galaxy(tmp_path / "cube.fits", "--weights", weights, "--out", tmp_path, "--stars", "X") == 2
    assert "--stars: this is for maps" in capsys.readouterr().err


def test_weights_that_are_absent_or_foreign_are_one_sentence_with_the_command(field, weights, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/model.json").write_text('{"format": "somebody else\'s"}')
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/model.json").write_bytes((weights / "model.json").read_bytes())
    (tmp_path / "cut/weights.safetensors").write_bytes((weights / "weights.safetensors").read_bytes()[:-9])
    for arguments in ((), *(("--weights", tmp_path / name) for name in ("none", "other", "cut"))):
        assert galaxy(field, *arguments, "--out", tmp_path / "out", *MAPS) == 2
        out, err = capsys.readouterr()
        assert not out and len(err.strip().splitlines()) == 1 and "tullyflow pretrain" in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "said"), [
    (("--axis-ratio", 1.7), "--axis-ratio: 1.7"), (("--r-e", -2), "--r-e: -2"), (("--hdu", "NONE"), "no image extension 'NONE'"),
    (("--hdu", "VELOCITY", "--centre", 99, 3), "outside the map"),
])  # fmt: skip
def test_what_cannot_be_asked_is_one_sentence(field, weights, tmp_path, capsys, options, said):
    assert galaxy(field, "--weights", weights, "--out", tmp_path, *options) == 2
    assert said in capsys.readouterr().err


def test_names_are_escaped_and_two_of_a_name_are_refused(field, weights, tmp_path, capsys):
    hostile = field.rename(tmp_path / "<i>NGC & co.fits")
    assert galaxy(hostile, "--weights", weights, "--out", tmp_path / "out", *MAPS) == 0
    page = (tmp_path / "out/<i>NGC & co/index.html").read_text()
    assert "<i>NGC" not in page and "&lt;i&gt;NGC &amp; co" in page
    assert galaxy(hostile, hostile, "--weights", weights, *MAPS) == 2
    assert "are called <i>NGC & co" in capsys.readouterr().err


def test_contours_of_the_corner_hold_one_and_two_sigma():
    rng = np.random.default_rng(8)
    samples = {"a (deg)": 60 + 2 * rng.standard_normal(20_000), "b (″)": 3 + 0.5 * rng.standard_normal(20_000)}
    nothing = np.full((64, 64), np.nan)
    view = GalaxyView({"galaxy": "x"}, 0.5, 2.0, nothing, nothing, nothing, nothing, None)
    figure = plot_galaxy(view, samples)
    panel = next(a for a in figure.get_axes() if a.get_xlabel() == "a (deg)" and a.get_ylabel() == "b (″)")
    outer, inner = (np.abs(np.vstack(paths)[:, 0] - 60).max() / 2 for paths in panel.collections[0].allsegs)
    assert (outer, inner) == pytest.approx((2.0, 1.0), rel=0.15)
    assert plot_galaxy(view, {}).get_axes(), "a galaxy without a posterior is drawn as well"
