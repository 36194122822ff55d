"""Promises of a shard: one row per target whatever its files hold, units, equal input gives equal bytes."""

import types
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import tullyflow.maps.galaxies as galaxies_module
from tullyflow.errors import CatalogueError, DataError, ModelError
from tullyflow.flags import BAD_VELOCITY, GALAXY, PIXEL
from tullyflow.maps.shards import build_shard, read_shard
from tullyflow.settings import parse_settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.tables import FIELD_HDUS, GALAXIES, MANIFEST, STAMP_HDUS, TARGETS, conform, write_table


def fake_maps(name):
    """A disc whose receding side lies at position angle 115 deg, systemic velocity 45 km/s."""
    y, x = np.indices((44, 48), dtype=float)
    centre = (22.5, 21.0)
    x, y = x - centre[0], y - centre[1]
    a = np.radians(115 + 90)  # north up, east left
    along, across = np.cos(a) * x + np.sin(a) * y, np.cos(a) * y - np.sin(a) * x
    radius = np.hypot(along, across / 0.5)
    velocity = 45 + 90 * np.arctan(radius / 4) * along / np.maximum(radius, 1e-9)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [10.0, 20.0], [centre[0] + 1, centre[1] + 1], [-0.5 / 3600, 0.5 / 3600]
    return GalaxyMaps(
        galaxy=name, velocity=velocity, velocity_err=np.full(velocity.shape, 3.0), wcs=wcs, centre=centre, pixel_scale_arcsec=0.5,
        mask=np.where(radius < 19, 0, PIXEL.NO_COVERAGE).astype(np.int32), intensity=40 * np.exp(-radius / 8) + 10,
        intensity_err=np.full(velocity.shape, 0.5), intensity_unit="1e-17 erg/s/cm^2", dispersion_sq=np.full(velocity.shape, 625.0),
        dispersion_sq_err=np.full(velocity.shape, 50.0), stellar_velocity=velocity * 0.9, psf_fwhm_arcsec=2.5, fov_pixels=900,
    )  # fmt: skip


def read(paths, target, settings):
    name = target["galaxy"]
    maps = fake_maps(name)
    y, x = np.indices(maps.velocity.shape)
    errors = {
        "torn": IndexError("index 3 is out of bounds\nfor axis 0"),
        "no_line": DataError(GALAXY.MISSING_HDU, "no line Ha-6564"),
        "half": DataError(GALAXY.MISSING_FILE, "half: there is no file for velocity."),
    }
    if name in errors:
        raise errors[name]
    alone = {"intensity": None, "intensity_err": None, "dispersion_sq": None, "dispersion_sq_err": None, "stellar_velocity": None}
    changes = {
        "tiny": {"mask": np.where(np.hypot(x - 22.5, y - 21) < 5, maps.mask, PIXEL.NO_COVERAGE).astype(np.int32)},
        "dark": {"intensity": maps.intensity * 1e-3},
        "still": {"velocity": 45 + (maps.velocity - 45) * 0.03},
        "velocity_only": alone, "velocity_alone": alone, "nowhere": {"wcs": None}, "sizes": {"intensity": maps.intensity[1:]},
    }  # fmt: skip
    return replace(maps, **changes.get(name, {}))


NAMES = ["good", "torn", "no_line", "gone", "not_fetched", "half", "tiny", "dark", "still", "velocity_only", "velocity_alone", "nowhere",
         "sizes", "unlisted", "good_too"]  # fmt: skip


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(galaxies_module, "get_survey", lambda name: types.SimpleNamespace(read=read))
    targets = pd.DataFrame({"galaxy": NAMES, "survey": "local", "release": "user", "shard": "local-user-000", "axis_ratio": 0.5,
                            "r_e_arcsec": 3.0, "flags": 0, "messages": ""})  # fmt: skip
    targets.loc[targets.galaxy == "velocity_alone", ["axis_ratio", "r_e_arcsec"]] = np.nan
    targets.loc[targets.galaxy == "good_too", ["flags", "messages"]] = [GALAXY.MISSING_MASS, "No mass: ± unknown."]
    write_table(tmp_path / "targets.parquet", conform(targets, TARGETS), TARGETS)
    status = {"gone": "missing", "not_fetched": "failed"}
    rows = [{"galaxy": n, "product": "maps", "path": f"{n}.fits", "status": status.get(n, "ok"), "message": "404" if n == "gone" else ""}
            for n in NAMES if n != "unlisted"]  # fmt: skip
    rows.append({"galaxy": "half", "product": "velocity", "path": "", "status": "failed", "message": "timed out"})
    write_table(tmp_path / "manifest.csv", conform(pd.DataFrame(rows), MANIFEST), MANIFEST)
    settings = parse_settings({"maps": {"min_pixels": 150}})
    return tmp_path / "manifest.csv", tmp_path / "targets.parquet", settings, tmp_path / "maps.fits"


EXPECTED = {
    "good": 0, "torn": GALAXY.UNREADABLE_FILE, "no_line": GALAXY.MISSING_HDU, "gone": GALAXY.MISSING_FILE,
    "not_fetched": GALAXY.FETCH_FAILED, "half": GALAXY.FETCH_FAILED, "tiny": GALAXY.TOO_FEW_PIXELS | GALAXY.LOW_FILL_FACTOR,
    "dark": GALAXY.NO_VALID_PIXEL, "still": GALAXY.NO_ROTATION, "velocity_only": GALAXY.INTENSITY_FROM_PHOTOMETRY,
    "velocity_alone": GALAXY.NO_PHOTOMETRY, "nowhere": GALAXY.NO_WCS, "sizes": GALAXY.UNREADABLE_FILE, "unlisted": GALAXY.MISSING_FILE,
    "good_too": GALAXY.MISSING_MASS,
}  # fmt: skip


def test_every_target_has_a_row_with_its_flags_in_the_targets_order(inputs):
    build_shard(*inputs)
    table = read_shard(inputs[3]).galaxies
    assert list(table.galaxy) == NAMES
    found = {name: GALAXY.names(bits) for name, bits in zip(table.galaxy, table["flags"], strict=True)}
    assert found == {name: GALAXY.names(bits) for name, bits in EXPECTED.items()}
    flagged = table[(table["flags"] != 0) & (table.galaxy != "velocity_only")]
    assert (flagged.messages.str.len() > 5).all()
    assert "index 3 is out of bounds for axis 0" in table.set_index("galaxy").messages["torn"]
    assert "404" in table.set_index("galaxy").messages["gone"]


def test_a_failed_galaxy_has_nan_stamps_and_a_flagged_one_can_still_be_drawn(inputs):
    build_shard(*inputs)
    shard = read_shard(inputs[3])
    valid = dict(zip(NAMES, ((shard.mask & BAD_VELOCITY) == 0).sum(axis=(1, 2)), strict=True))
    for k, name in enumerate(NAMES):
        if name in ("torn", "no_line", "gone", "not_fetched", "half", "dark", "sizes", "unlisted"):
            assert np.isnan(shard.velocity[k]).all()
            assert (shard.mask[k] == PIXEL.NO_COVERAGE).all()
        else:
            assert valid[name] > 50, name
            assert np.array_equal(np.isfinite(shard.velocity[k]), (shard.mask[k] & BAD_VELOCITY) == 0)


def test_numbers_of_a_good_galaxy(inputs):
    build_shard(*inputs)
    shard = read_shard(inputs[3])
    row = shard.galaxies.iloc[0]
    assert abs(row.pa_deg - 115) < 0.5
    assert abs(row.pa_stellar_deg - 115) < 0.5
    assert abs(row.v_sys_kms - 45) < 0.5
    assert np.isclose(row.outer_dispersion_kms, 25)
    assert row.intensity_kind == "data"
    assert row.intensity_unit == "1e-17 erg/s/cm^2"
    assert np.isclose(row.inclination_phot_deg, 62.1, atol=0.2)
    assert np.isclose(row.fill_factor, row.n_spaxels / 900)
    assert np.nanmax(shard.intensity[0]) == 1
    assert np.nanmean(shard.velocity[0][28:36, 40:60]) > 50


def test_differences_of_absolute_velocities_are_divided_by_1_plus_z_and_v_sys_stays(monkeypatch):
    # z = 0.1: v_sys = 29979.2458 km/s. In the rest frame 45 km/s becomes 0, sigma 25 km/s, errors 3 km/s; a spectrograph
    # sees differences 1.1 times as large: velocities x 1.1, sigma^2 625 x 1.21 = 756.25, errors 3.3 km/s.
    rest = fake_maps("rest")
    observed = replace(
        rest, absolute=True, velocity=29979.2458 + 1.1 * (rest.velocity - 45), velocity_err=rest.velocity_err * 1.1,
        dispersion_sq=np.full(rest.velocity.shape, 756.25), dispersion_sq_err=rest.dispersion_sq_err * 1.21,
    )  # fmt: skip
    given = {"rest": rest, "observed": observed, "relative": replace(observed, absolute=False)}
    read = types.SimpleNamespace(read=lambda paths, target, settings: given[target["galaxy"]])
    monkeypatch.setattr(galaxies_module, "get_survey", lambda name: read)
    targets = conform(pd.DataFrame({"galaxy": list(given), "survey": "local", "release": "user", "shard": "local-user-000",
                                    "axis_ratio": 0.5, "r_e_arcsec": 3.0}), TARGETS)  # fmt: skip
    settings = parse_settings({"maps": {"min_pixels": 150}})
    manifest = {"maps": {"path": "x.fits", "status": "ok", "message": ""}}
    made = {row["galaxy"]: galaxies_module.make_galaxy(row, manifest, settings) for row in targets.to_dict("records")}
    here, there, relative = made["rest"], made["observed"], made["relative"]
    assert np.isclose(there.row["v_sys_kms"], 29979.2458, atol=0.5)
    assert np.isclose(there.row["v_abs_max_kms"], here.row["v_abs_max_kms"], atol=0.05)
    assert np.isclose(there.row["outer_dispersion_kms"], 25.0)
    assert np.isclose(there.row["v_sys_err_kms"], 1.1 * here.row["v_sys_err_kms"], rtol=0.1)
    for name in ("velocity", "velocity_err", "dispersion", "dispersion_err"):
        np.testing.assert_allclose(getattr(there.stamp, name), getattr(here.stamp, name), rtol=1e-3, atol=0.05)
    # velocities relative to the catalogue's redshift are never divided
    assert np.isclose(relative.row["v_abs_max_kms"], 1.1 * here.row["v_abs_max_kms"], atol=0.05)
    assert np.isclose(relative.row["outer_dispersion_kms"], 27.5)


def test_velocity_alone_takes_the_disc_of_the_catalogue_and_its_field_is_not_tested(inputs):
    build_shard(*inputs)
    shard = read_shard(inputs[3])
    k, alone = NAMES.index("velocity_only"), NAMES.index("velocity_alone")
    assert shard.galaxies.intensity_kind[k] == "photometry"
    assert np.isnan(shard.galaxies.fill_factor[k])
    assert np.array_equal(np.isfinite(shard.intensity[k]), np.isfinite(shard.velocity[k]))
    assert np.nanmax(shard.intensity[k]) == 1
    assert shard.intensity[k][31, 31] > 0.9
    assert np.isnan(shard.intensity[alone]).all()


def test_equal_input_gives_equal_bytes_whatever_the_threads(inputs):
    build_shard(*inputs)
    first = inputs[3].read_bytes()
    build_shard(*inputs, threads=2)
    assert inputs[3].read_bytes() == first


def test_the_file_is_whole_carries_units_and_says_what_made_it(inputs):
    build_shard(*inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(inputs[3], checksum=True) as hdus:
            hdus.verify("exception")
            assert [hdu.name for hdu in hdus[1:]] == [*STAMP_HDUS, *FIELD_HDUS, "GALAXIES"]
            for hdu in hdus:
                assert hdu.header["CREATOR"].startswith("tullyflow ")
                assert len(hdu.header["SETTINGS"]) == len(hdu.header["MANIFEST"]) == 32
            assert hdus["VELOCITY"].header["BUNIT"] == "km/s"
            assert hdus["INTENSITY"].data.shape == (len(NAMES), 64, 64)
            units = {c.name: c.unit or "" for c in hdus["GALAXIES"].columns}
            assert units == {c.name: c.unit for c in GALAXIES}
    assert not list(inputs[3].parent.glob(".*part"))


def test_what_is_read_is_what_was_built(inputs):
    built, found = build_shard(*inputs), read_shard(inputs[3])
    assert np.isfinite(built.stellar_velocity_field).any()
    for name in (*STAMP_HDUS, *FIELD_HDUS):
        np.testing.assert_array_equal(getattr(built, name.lower()), getattr(found, name.lower()))
    ascii_only = built.galaxies.assign(messages=[m.encode("ascii", "replace").decode() for m in built.galaxies.messages])
    pd.testing.assert_frame_equal(ascii_only, found.galaxies)


def test_one_line_per_galaxy_goes_to_the_log(inputs, caplog):
    with caplog.at_level("INFO", logger="tullyflow"):
        build_shard(*inputs)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert len(lines) == len(NAMES) + 1
    assert lines[0].startswith("local good: ")
    assert "kept" in lines[0]
    assert "PA 115" in lines[0]
    assert "3 UNREADABLE" not in lines[-1]
    assert "2 UNREADABLE_FILE" in lines[-1]


def test_a_broken_shard_or_list_is_the_callers_error(inputs, tmp_path):
    (tmp_path / "torn.fits").write_bytes(b"not a shard")
    with pytest.raises(ModelError, match="maps stage"):
        read_shard(tmp_path / "torn.fits")
    with pytest.raises(CatalogueError, match="no such table"):
        build_shard(tmp_path / "none.csv", *inputs[1:])
