"""Tables for people: what ECSV and FITS say of a sample is what is in it."""

import warnings

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table

from tullyflow.errors import RelationError
from tullyflow.relation.described import write_described
from tullyflow.tables import SAMPLE, Column

from .conftest import mock_sample

COLUMNS = (
    Column("galaxy", "s", "", "name"), Column("v_kms", "f", "km/s", "velocity ± its error"), Column("log_m", "f", "dex(Msun)", "mass"),
    Column("bits", "i", "", "flags"), Column("used", "b", "", "in the relation"),
)  # fmt: skip
FRAME = pd.DataFrame({
    "galaxy": ["σ-one", "", "three with a long sentence: χ² is 3 ± 1."], "v_kms": [1.5, np.nan, np.inf], "log_m": [9.0, 10.5, np.nan],
    "bits": [0, 1 << 36, 3], "used": [True, False, True],
})  # fmt: skip


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Table.read(path)


@pytest.mark.parametrize("suffix", [".ecsv", ".fits"])
def test_values_kinds_and_units_come_back_without_a_warning(suffix, tmp_path):
    write_described(tmp_path / f"t{suffix}", FRAME, COLUMNS)
    table = read(tmp_path / f"t{suffix}")
    assert table.colnames == [c.name for c in COLUMNS]
    np.testing.assert_array_equal(np.ma.filled(table["v_kms"], np.nan), FRAME["v_kms"])
    assert list(table["bits"]) == [0, 1 << 36, 3] and list(table["used"]) == [True, False, True]
    assert table["used"].dtype == bool and str(table["v_kms"].unit) == "km / s"


def test_ecsv_keeps_every_letter_and_logarithmic_unit(tmp_path):
    write_described(tmp_path / "t.ecsv", FRAME, COLUMNS)
    table = read(tmp_path / "t.ecsv")
    assert list(table["galaxy"].filled("")) == list(FRAME["galaxy"])
    assert table["log_m"].unit == units.dex("Msun") and table["v_kms"].description == "velocity ± its error"


def test_fits_says_what_each_column_is_in_letters_it_can_hold(tmp_path):
    write_described(tmp_path / "t.fits", FRAME, COLUMNS)
    with fits.open(tmp_path / "t.fits", checksum=True) as hdus:
        header = hdus["TABLE"].header
        assert header["TCOMM2"] == "velocity +- its error" and header["TCOMM3"] == "mass [dex(Msun)]" and "TUNIT3" not in header
        assert (header["TUNIT2"], header["TDISP2"], header["TFORM5"]) == ("km/s", "G15.7", "L")
        assert list(hdus["TABLE"].data["galaxy"]) == ["sigma-one", "", "three with a long sentence: chi2 is 3 +- 1."]


def test_table_without_a_row_is_a_table(tmp_path):
    for suffix in (".ecsv", ".fits"):
        write_described(tmp_path / f"t{suffix}", FRAME.iloc[:0], COLUMNS)
        assert len(read(tmp_path / f"t{suffix}")) == 0


def test_a_whole_sample_is_written(tmp_path):
    sample, _ = mock_sample(np.random.default_rng(2), n=30)
    write_described(tmp_path / "sample.fits", sample, SAMPLE)
    table = read(tmp_path / "sample.fits")
    assert table.colnames == [c.name for c in SAMPLE]
    np.testing.assert_allclose(table["log_mstar"], sample["log_mstar"])
    assert list(table["galaxy"]) == list(sample["galaxy"])


def test_other_suffix_is_refused(tmp_path):
    with pytest.raises(RelationError, match=r"\.ecsv or \.fits"):
        write_described(tmp_path / "t.txt", FRAME, COLUMNS)
