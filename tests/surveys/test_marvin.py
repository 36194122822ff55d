"""Marvin, in its own environment, and our reader see the same galaxies; where Marvin differs on purpose it is said how."""

import csv
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from packaging.requirements import Requirement

from tullyflow.errors import DataError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.settings import parse_settings
from tullyflow.surveys import manga
from tullyflow.surveys.mock import make_archive
from tullyflow.tables import MANIFEST

ROOT = Path(__file__).resolve().parents[2]
READER = Path(manga.__file__).with_name("marvin_reader.py")
IMAGES = ("velocity", "velocity_err", "intensity", "intensity_err", "dispersion_sq", "dispersion_sq_err", "mask", "stellar_velocity",
          "bin_id")  # fmt: skip
# anything that would reach a network says so in a file, and fails
GUARD = """
import os, socket
def refuse(*arguments, **named):
    with open(os.environ["ATTEMPTS"], "a") as handle:
        handle.write(f"{arguments}\\n")
    raise OSError("no network in this test")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
open(os.environ["ATTEMPTS"], "a").close()
"""


def run_in(python: Path, folder: Path, script: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a script of Marvin's environment with an empty home and no network."""
    for name in ("guard", "home"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "guard/sitecustomize.py").write_text(GUARD)
    environment = {**os.environ, "HOME": str(folder / "home"), "PYTHONPATH": str(folder / "guard"), "ATTEMPTS": str(folder / "attempts")}
    command = [str(python), "-sP", str(script), *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def with_version(source: Path, out: Path, version: str) -> Path:
    with fits.open(source) as hdus:
        hdus[0].header["VERSDAP"] = version
        hdus.writeto(out, output_verify="silentfix+ignore")
    return out


@pytest.fixture(scope="session")
def mock_files(tmp_path_factory) -> dict[str, Path]:
    """MAPS of simulated galaxies in both layouts; of one a copy is cut, in another the line has another name."""
    folder = tmp_path_factory.mktemp("mock")
    mock = {"manga_dr15": 2, "manga_dr17": 2, "sami": 0, "things": 0, "samples": 20_000}
    make_archive(parse_settings({"releases": str(ROOT / "config/releases.csv"), "seed": 11, "mock": mock}), folder)
    files = {re.search(r"manga-(\d+-\d+)-MAPS", path.name)[1]: path for path in sorted(folder.glob("data.sdss.org/**/manga-*-MAPS-*"))}
    first = next(iter(files.values()))
    cut, renamed = folder / "cut.fits.gz", folder / "renamed.fits"
    cut.write_bytes(first.read_bytes()[:30_000])
    with fits.open(first) as hdus:
        hdus["EMLINE_GVEL"].header["C19"] = "Hx-6564"
        hdus.writeto(renamed)
    return {**files, "cut": cut, "renamed": renamed}


@pytest.fixture(scope="session")
def real_files(tmp_path_factory) -> dict[str, Path]:
    """The six MAPS of DR17, that of DR15 (its version set to the one Marvin knows), and the same as it is; none elsewhere."""
    sdss = ROOT.parent / "shared/mirror/data.sdss.org/sas"
    files = {re.search(r"manga-(\d+-\d+)-MAPS", path.name)[1]: path for path in sorted(sdss.glob("dr17/**/manga-*-MAPS-*"))}
    for path in sdss.glob("dr15/**/manga-7815-3702-MAPS-*"):
        files["7815-3702"] = with_version(path, tmp_path_factory.mktemp("dr15") / "maps.fits.gz", "2.2.1")
        files["as it is"] = path
    return files


@pytest.fixture(scope="session")
def by_marvin(marvin_python, mock_files, real_files, tmp_path_factory) -> SimpleNamespace:
    """All files read once by the reader in Marvin's environment: ``files``, the new manifest ``rows``, the ``folder``."""
    folder = tmp_path_factory.mktemp("marvin")
    files = {**mock_files, **real_files}
    columns = [column.name for column in MANIFEST]
    with open(folder / "fetched.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, restval="")
        writer.writeheader()
        writer.writerow({"galaxy": "not fetched", "product": "maps", "path": "nowhere", "status": "failed", "message": "404"})
        writer.writerows({"galaxy": name, "product": "maps", "path": str(path), "status": "ok"} for name, path in files.items())
    options = ("--manifest", "fetched.csv", "--line", "Ha-6564", "--out", "read.csv", "--folder", "read")
    done = run_in(marvin_python, folder, READER, *options)
    with open(folder / "read.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return SimpleNamespace(files=files, rows=rows, folder=folder, printed=done.stdout)


@pytest.fixture(scope="session")
def marvin_says(marvin_python, by_marvin) -> dict[str, np.ndarray]:
    """What Marvin itself says of every readable file (marvin_says.py)."""
    out = by_marvin.folder / "says.npz"
    named = [f"{name}={path}" for name, path in by_marvin.files.items() if re.fullmatch(r"\d+-\d+", name)]
    run_in(marvin_python, by_marvin.folder, Path(__file__).with_name("marvin_says.py"), str(READER), str(out), *named)
    return dict(np.load(out))


def release_of(name: str) -> str:
    return "DR15" if name.startswith("7") else "DR17"  # 7815-3702, and the mock's plates 70001


def both(by_marvin, configure, name: str, **keys):
    """A galaxy by our reader from its MAPS file, and by way of Marvin."""
    target = {"galaxy": name, "release": release_of(name), "psf_fwhm_arcsec": float("nan")}
    paths = {"maps": by_marvin.files[name], "marvin": by_marvin.folder / "read" / f"{name}.fits"}
    return tuple(manga.read(paths, target, configure(manga={"reader": reader, **keys})) for reader in ("native", "marvin"))


def readable(by_marvin) -> list[str]:
    return [name for name in by_marvin.files if re.fullmatch(r"\d+-\d+", name)]


def test_both_readers_agree_to_the_last_bit_on_every_map(by_marvin, configure):
    assert len(readable(by_marvin)) >= 4
    for name in readable(by_marvin):
        native, marvin = both(by_marvin, configure, name)
        for image in IMAGES:
            ours, theirs = getattr(native, image), getattr(marvin, image)
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name}: {image}")
        assert (native.centre, native.pixel_scale_arcsec) == (marvin.centre, marvin.pixel_scale_arcsec)
        assert (native.fov_pixels, native.flags, native.messages) == (marvin.fov_pixels, marvin.flags, marvin.messages)
        assert dict(native.history) == dict(marvin.history)
        assert np.ptp(native.velocity[native.mask == 0]) > 5, "a map of zeros would agree with anything"


@pytest.mark.parametrize("count", [7])
def test_the_real_galaxies_are_among_them(shared, by_marvin, count):
    assert sum(not name.startswith(("7000", "9000")) for name in readable(by_marvin)) == count


def test_marvins_own_maps_are_ours_but_for_negative_dispersions(by_marvin, marvin_says, configure):
    """Straight from Marvin, not by way of a file: values, and what Marvin masks (NOCOV, UNRELIABLE, DONOTUSE of any of the maps).

    Ours forbids more bits (NOVALUE, FORESTAR, NEARBOUND), spaxels without a spectrum and inverse variances of zero; in these
    files all such pixels have DONOTUSE as well. What is left is sigma^2 < 0, which Marvin keeps as zero.
    """
    for name in readable(by_marvin):
        native, _ = both(by_marvin, configure, name)
        masked = np.logical_or.reduce([marvin_says[f"{name}/{kind}_masked"] for kind in ("gflux", "gvel", "gsigma")])
        for kind, ours in (("gvel", native.velocity), ("gflux", native.intensity)):
            np.testing.assert_array_equal(marvin_says[f"{name}/{kind}"], ours.astype(np.float32), err_msg=f"{name}: {kind}")
        ours = (native.mask & ~PIXEL.NEGATIVE_DISPERSION) != 0
        np.testing.assert_array_equal(ours, masked, err_msg=f"{name}: mask")
        negative = (native.mask == PIXEL.NEGATIVE_DISPERSION).sum()
        print(f"{name}: both keep {int((~masked).sum())} of {masked.size} pixels; {int(negative)} of them have sigma^2 < 0 with our LSF")


def test_marvins_own_dispersions_differ_where_it_means_to(by_marvin, marvin_says, configure):
    """sigma^2 < 0 is 0 with ivar 0 for Marvin, negative and flagged for us; its ivar has the ratio once, not squared (FACTS)."""
    negatives = 0
    for name in readable(by_marvin):
        native, _ = both(by_marvin, configure, name, lsf_factor=1.0)  # the correction of DR15's LSF is ours alone
        corrected, ivar = marvin_says[f"{name}/corrected"], marvin_says[f"{name}/corrected_ivar"]
        measured = marvin_says[f"{name}/gsigma_ivar"] > 0
        below = measured & (native.dispersion_sq <= 0)
        assert (corrected[below] == 0).all()
        assert (ivar[below] == 0).all()
        negative = measured & (native.dispersion_sq < 0)
        assert ((native.mask[negative] & PIXEL.NEGATIVE_DISPERSION) != 0).all()
        negatives += negative.sum()

        above = measured & (native.dispersion_sq > 1)
        np.testing.assert_allclose(corrected[above] ** 2, native.dispersion_sq[above], rtol=1e-3, atol=0.05, err_msg=name)
        sigma = marvin_says[f"{name}/gsigma"][above].astype(float)
        ours = (native.dispersion_sq_err[above] / 2 / np.sqrt(native.dispersion_sq[above])) ** -2
        ratio = ivar[above] / ours
        np.testing.assert_allclose(ratio, sigma / np.sqrt(native.dispersion_sq[above]), rtol=2e-3, err_msg=name)
        older = ""
        if release_of(name) == "DR15":
            with_lsf, _ = both(by_marvin, configure, name)
            shift = np.sqrt(native.dispersion_sq[above]) - np.sqrt(np.maximum(with_lsf.dispersion_sq[above], 0))
            older = f"; DR15's LSF takes {np.median(shift):.1f} km/s off ours, nothing off Marvin's"
        print(f"{name}: {int(negative.sum())} of {int(measured.sum())} pixels negative (Marvin: 0); "
              f"Marvin's ivar {np.median(ratio):.2f} times ours in the median{older}")  # fmt: skip
    assert negatives > 0


def test_a_file_marvin_cannot_read_costs_one_galaxy(by_marvin, configure):
    said = {row["galaxy"]: row["message"] for row in by_marvin.rows if row["product"] == "marvin"}
    refused = [name for name in by_marvin.files if name not in readable(by_marvin)]
    assert set(said) == set(by_marvin.files), "one row more for every file that was fetched"
    assert sorted(name for name, message in said.items() if message) == sorted(refused)
    assert len(by_marvin.rows) == 2 * len(by_marvin.files) + 1
    assert f"{len(by_marvin.files)} galaxies, {len(refused)} of them not readable" in by_marvin.printed
    for name in refused:
        with pytest.raises(DataError, match="Marvin cannot read its MAPS file") as caught:
            manga.read({"marvin": by_marvin.folder / "read" / f"{name}.fits"}, {"galaxy": name}, configure(manga={"reader": "marvin"}))
        assert caught.value.flag == GALAXY.UNREADABLE_FILE


def test_a_development_version_is_refused_by_marvin_and_taken_by_us(shared, by_marvin, configure):
    (said,) = (row["message"] for row in by_marvin.rows if row["product"] == "marvin" and row["galaxy"] == "as it is")
    assert "2.2.3dev" in said
    assert "v2_4_3 2.2.1" in said
    target = {"galaxy": "7815-3702", "release": "DR15", "psf_fwhm_arcsec": float("nan")}
    assert manga.read({"maps": by_marvin.files["as it is"]}, target, configure()).fov_pixels > 500


def test_marvin_reaches_for_no_network_and_leaves_the_home_alone(by_marvin, marvin_says):
    assert (by_marvin.folder / "attempts").read_text() == "", "the guard was there, and nothing ran into it"
    assert list((by_marvin.folder / "home").iterdir()) == []


def test_a_channel_under_another_name_is_refused(by_marvin):
    (said,) = (row["message"] for row in by_marvin.rows if row["product"] == "marvin" and row["galaxy"] == "renamed")
    assert "EMLINE_GVEL: Marvin takes channel C19 for Ha-6564, the header calls it Hx-6564" in said


def test_the_pinned_environment_is_the_one_conda_is_asked_for():
    pins = dict(line.split("==") for line in (ROOT / "envs/marvin.txt").read_text().splitlines() if "==" in line)
    pins = {name.lower(): version for name, version in pins.items()}
    asked = [Requirement(line.strip(" -")) for line in (ROOT / "envs/marvin.yaml").read_text().splitlines() if re.search(r"==|<", line)]
    assert {one.name for one in asked} == {"sdss-marvin", "marshmallow", "numpy", "setuptools"}
    for one in asked:
        assert pins[one.name] in one.specifier


def test_marvin_is_the_pinned_one_beside_a_numpy_that_is_not_ours(marvin_says):
    assert marvin_says["marvin"] == "2.8.2"
    assert int(str(marvin_says["numpy"]).split(".")[0]) < 2 <= int(np.__version__.split(".")[0])
