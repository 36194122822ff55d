"""A small shard of synthetic galaxies on disk, and a network trained just enough to be told from a guess."""

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits

from tullyflow.flags import GALAXY, PIXEL
from tullyflow.network import training
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.synthetic import draw_discs
from tullyflow.settings import parse_settings
from tullyflow.tables import FIELD_HDUS, GALAXIES, STAMP_HDUS, TARGETS, conform, write_table

SCALE = 0.7  # arcsec per stamp pixel


@pytest.fixture(autouse=True)
def few_calibration_discs(monkeypatch):
    monkeypatch.setattr(training, "_CALIBRATION_DISCS", 300)


@pytest.fixture(scope="session")
def settings():
    stream = {"beam": [0, 8], "snr": [20, 500], "velocity_err": ["0.3 km/s", "8 km/s"], "other_curves": 0.1, "central_light": 0.1}
    network = {"samples": 40, "synthetic_steps": 200, "synthetic_batch": 32, "batch_size": 4, "calibration_fits": 40, "stream": stream}
    return parse_settings({"device": "cpu", "network": network})


def with_network(settings, **changes):
    """Return settings with some keys of the section network changed."""
    data = settings.model_dump(mode="json")
    data["network"] |= changes
    return parse_settings(data)


@pytest.fixture
def changed(settings):
    return lambda **changes: with_network(settings, **changes)


@pytest.fixture
def model(settings):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return DiscAutoencoder(settings.network)


@pytest.fixture(scope="session")
def trained_dir(settings, tmp_path_factory):
    """Weights of 200 synthetic steps: far from good, far better than none."""
    folder = tmp_path_factory.mktemp("initial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_CALIBRATION_DISCS", 600)
        training.pretrain(settings, folder)
    return folder


@pytest.fixture(scope="session")
def write_shard(settings, tmp_path_factory):
    """Return a function that writes a shard of synthetic galaxies as the maps stage does, and its targets.

    ``dead`` galaxies have no stamp and the flag MISSING_FILE; ``photometric`` ones the flag INTENSITY_FROM_PHOTOMETRY.
    """

    def write(n=6, dead=(), photometric=(), seed=11):
        discs = draw_discs(n, DiscAutoencoder(settings.network), torch.Generator().manual_seed(seed))
        alive = np.array([k not in dead for k in range(n)])
        valid = discs.stamps.valid.numpy() & alive[:, None, None]
        images = {
            name: np.where(valid, getattr(discs.stamps, name.lower()).numpy(), np.nan).astype(np.float32)
            for name in ("INTENSITY", "INTENSITY_ERR", "VELOCITY", "VELOCITY_ERR")
        }
        images |= {name: np.full(valid.shape, np.nan, np.float32) for name in ("DISPERSION", "DISPERSION_ERR")}
        images |= {name: images["VELOCITY"] for name in FIELD_HDUS}  # a field that happens to lie as its stamp does
        images["MASK"] = np.where(valid, 0, PIXEL.NO_COVERAGE).astype(np.int32)
        names = [f"galaxy {k}" for k in range(n)]
        flags = np.where(alive, 0, GALAXY.MISSING_FILE)
        flags[list(photometric)] |= GALAXY.INTENSITY_FROM_PHOTOMETRY
        ids = {"galaxy": names, "survey": "local", "release": "user", "shard": "local-user-000", "flags": flags}
        messages = np.where(alive, "", "The file is not there.")
        table = pd.DataFrame({
            **ids, "messages": messages, "stamp_scale_arcsec": np.where(alive, SCALE, np.nan), "r_max_arcsec": 15.0,
            "psf_fwhm_arcsec": discs.stamps.beam.numpy() * SCALE, "inclination_phot_deg": 55.0, "inclination_phot_err_deg": 4.0,
        })  # fmt: skip
        table = conform(table, GALAXIES)
        formats = {"f": "D", "i": "K", "b": "L", "s": "40A"}
        columns = [fits.Column(c.name, formats[c.kind], array=table[c.name].to_numpy()) for c in GALAXIES]
        hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(images[name], name=name) for name in (*STAMP_HDUS, *FIELD_HDUS))]
        folder = tmp_path_factory.mktemp("shard")
        fits.HDUList([*hdus, fits.BinTableHDU.from_columns(columns, name="GALAXIES")]).writeto(folder / "maps.fits")
        write_table(folder / "targets.parquet", pd.DataFrame({**ids, "r_e_arcsec": 9.0}), TARGETS)
        return folder / "maps.fits", folder / "targets.parquet", discs

    return write
