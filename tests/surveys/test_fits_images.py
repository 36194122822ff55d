"""Reading of single extensions: a part of a file is read like the whole, names are unique, gzip streams are checked."""

import gzip

import numpy as np
import pytest
from astropy.io import fits

from tullyflow.errors import DataError
from tullyflow.flags import GALAXY
from tullyflow.surveys.fits_images import beam_of, image, image_hdu, open_fits

NAMES = ("FLUX", "BINS", "TABLE", "VELOCITY", "MASK")


@pytest.fixture
def packed(tmp_path):
    """A gzipped file of images of several types, one compressed, a table between them, and a header with the word END in a comment."""
    y, x = np.mgrid[:31, :47]
    velocity = fits.ImageHDU((3 * x - y).astype("f4"), name="VELOCITY")
    velocity.header["REMARK"] = "NAXIS   = 7, EXTNAME = 'FLUX'   END" + 20 * " " + "."
    made = fits.HDUList([
        fits.PrimaryHDU(), fits.ImageHDU(np.stack([x, 2 * y]).astype("f8"), name="FLUX"), fits.ImageHDU((x // 3).astype("i2"), name="BINS"),
        fits.BinTableHDU.from_columns([fits.Column("a", "PD()", array=np.array([[1.0], [2.0, 3.0]], dtype=object))], name="TABLE"),
        velocity, fits.CompImageHDU((x > y).astype("i4"), name="MASK"),
    ])  # fmt: skip
    made[0].header["PLATEIFU"] = "1-2"
    made.writeto(tmp_path / "maps.fits")
    path = tmp_path / "maps.fits.gz"
    path.write_bytes(gzip.compress((tmp_path / "maps.fits").read_bytes()))
    return path


def pixels(path, extensions, wanted):
    with open_fits(path, extensions) as hdus:
        return len(hdus), hdus[0].header["PLATEIFU"], [image(image_hdu(hdus, name, path), path, plane=1) for name in wanted]


@pytest.mark.parametrize("wanted", [("VELOCITY",), ("MASK", "FLUX"), ("BINS", "VELOCITY", "MASK")])
def test_a_part_of_a_file_is_read_like_the_whole(packed, wanted):
    number, name, found = pixels(packed, wanted, wanted)
    assert (number, name) == (1 + len(wanted), "1-2")
    everything = pixels(packed, (), wanted)
    assert everything[0] == 1 + len(NAMES)
    for here, there in zip(found, everything[2], strict=True):
        np.testing.assert_array_equal(here, there)


def test_a_file_without_one_of_them_is_opened_whole(packed):
    with open_fits(packed, ("FLUX", "ABSENT")) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == list(NAMES)


def test_two_extensions_of_one_name_are_refused(tmp_path):
    path = tmp_path / "twice.fits"
    images = [fits.ImageHDU(np.full((4, 4), k, dtype="f4"), name="VELOCITY") for k in range(2)]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    with open_fits(path) as hdus, pytest.raises(DataError, match="two extensions are called velocity"):
        image_hdu(hdus, "velocity", path)


def test_streams_written_one_after_the_other_are_one_file(packed):
    plain = gzip.decompress(packed.read_bytes())
    packed.write_bytes(gzip.compress(plain[:5000]) + gzip.compress(plain[5000:]))
    assert pixels(packed, ("VELOCITY",), ("VELOCITY",))[2][0][3, 5] == 12


@pytest.mark.parametrize("spoilt", ["crc", "length", "end"])
def test_a_stream_that_is_not_whole_is_unreadable(packed, spoilt):
    whole = packed.read_bytes()
    if spoilt == "end":
        packed.write_bytes(whole[:-200])
    else:
        at = -6 if spoilt == "crc" else -1
        packed.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + (whole[at + 1 :] if at < -1 else b""))
    with pytest.raises(DataError) as caught, open_fits(packed, ("VELOCITY",)):
        pass
    assert caught.value.flag == GALAXY.UNREADABLE_FILE


def test_a_beam_is_read_from_its_keys_or_the_last_clean_of_the_history():
    header = fits.Header()
    assert beam_of(header) is None
    header["HISTORY"] = "AIPS   CLEAN BMAJ=  3.0000E-03 BMIN=  2.0000E-03 BPA=  10.00"
    header["HISTORY"] = "AIPS   CLEAN BMAJ=  4.2397E-03 BMIN=  3.8997E-03 BPA=  -2.69"
    assert beam_of(header) == pytest.approx((15.263, 14.039, 177.31), abs=1e-3)
    header["BMAJ"], header["BMIN"] = 2 / 3600, 1 / 3600
    assert beam_of(header) == pytest.approx((15.263, 14.039, 177.31), abs=1e-3)  # an angle is missing: the history's
    header["BPA"] = 200.0
    assert beam_of(header) == pytest.approx((2.0, 1.0, 20.0))
    header["BMIN"] = -1 / 3600
    assert beam_of(header) is None
