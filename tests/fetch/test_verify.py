"""Verified means: digest, gzip checksum, FITS structure against astropy's reading of it, expected HDUs, CHECKSUM and DATASUM."""

import gzip
import hashlib
import io
import tracemalloc
import zlib

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tullyflow.fetch.fits_stream import fits_problem
from tullyflow.fetch.transfer import fetch_file
from tullyflow.fetch.verify import examine
from tullyflow.settings import Fetch
from tullyflow.surveys import Product
from tullyflow.surveys.manga import HDUS


def image(seed, shape, dtype, name):
    rng = np.random.default_rng(seed)
    return fits.ImageHDU(rng.integers(0, 100, shape).astype(dtype), name=name)


def table(seed, rows, name):
    rng = np.random.default_rng(seed)
    ragged = np.array([rng.integers(0, 9, n) for n in range(rows)] + [None], dtype=object)[:rows]
    columns = [fits.Column("V", "E", array=rng.normal(size=rows)), fits.Column("R", "PJ()", array=ragged)]
    return fits.BinTableHDU.from_columns(columns, name=name)


def ascii_table(seed, rows, name):
    return fits.TableHDU.from_columns([fits.Column("A", "F9.3", array=np.random.default_rng(seed).normal(size=rows))], name=name)


def content(hdus, checksum=True):
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer, checksum=checksum)
    return buffer.getvalue()


HDU = st.one_of(
    st.builds(image, st.integers(0, 99), st.tuples(st.integers(1, 40), st.integers(1, 50)), st.sampled_from(["u1", "i2", "i4", "f4", "f8"]),
              st.sampled_from(["FLUX", "It's", "A"])),
    st.builds(table, st.integers(0, 99), st.integers(1, 30), st.sampled_from(["TAB", "T2"])),
    st.builds(ascii_table, st.integers(0, 99), st.integers(1, 30), st.just("TEXT")),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(HDU, max_size=4), st.integers(0, 2**31), st.booleans())
def test_any_file_astropy_writes_passes_and_any_changed_byte_does_not(hdus, where, checksum):
    whole = content([fits.PrimaryHDU(), *hdus], checksum)
    with fits.open(io.BytesIO(whole)) as opened:
        names = tuple(hdu.name for hdu in opened)
    assert fits_problem(io.BytesIO(whole), names) == ""
    assert "NOT THERE" in fits_problem(io.BytesIO(whole), ("NOT THERE",))
    for cut in (1, 79, 2880, len(whole) // 2 // 2880 * 2880, len(whole) - 2880):
        if 0 < cut < len(whole):
            with fits.open(io.BytesIO(whole)) as opened:
                ends = {0, *(hdu.fileinfo()["datLoc"] + hdu.size for hdu in opened)}
            short = fits_problem(io.BytesIO(whole[:cut]))
            assert short or any(end <= cut <= end + -end % 2880 for end in ends)
    spoilt = bytearray(whole)
    spoilt[where % len(whole)] ^= 1
    if checksum:
        assert fits_problem(io.BytesIO(bytes(spoilt)))


def test_sums_are_compared_only_where_asked_for():
    whole = bytearray(content([fits.PrimaryHDU(), image(1, (30, 40), "f4", "VELOCITY")]))
    whole[-2000] ^= 4
    assert fits_problem(io.BytesIO(bytes(whole))) == "HDU 1 (VELOCITY): DATASUM is not the sum of its data"
    assert fits_problem(io.BytesIO(bytes(whole)), sums=False) == ""
    edited = content([fits.PrimaryHDU(), image(1, (30, 40), "f4", "VELOCITY")]).replace(b"'VELOCITY'", b"'VELOCITX'")
    assert "CHECKSUM" in fits_problem(io.BytesIO(edited))
    assert fits_problem(io.BytesIO(edited), sums=False) == ""


def test_sums_that_are_there_but_empty_are_no_sums():
    hdu = image(1, (3, 4), "f4", "A")
    hdu.header["DATASUM"], hdu.header["CHECKSUM"] = "", ""
    assert fits_problem(io.BytesIO(content([fits.PrimaryHDU(), hdu], checksum=False))) == ""


def test_a_file_without_the_hdus_expected_is_refused_at_download(tmp_path, archive):
    archive.files["/a.fits.gz"] = gzip.compress(content([fits.PrimaryHDU(), image(1, (3, 4), "f4", "FLUX")]))
    url = (f"{archive.url}/a.fits.gz",)
    wanted = Product("g", "maps", url, "a.fits.gz", hdus=("PRIMARY", "FLUX", "VELOCITY"))
    row = fetch_file(wanted, tmp_path / "a.fits.gz", Fetch(tries=1))
    assert row["status"] == "failed"
    assert "expected HDU VELOCITY is not in it; found: PRIMARY, FLUX" in row["message"]
    assert not list(tmp_path.iterdir())
    assert fetch_file(Product("g", "maps", url, "a.fits.gz", hdus=("FLUX",)), tmp_path / "a.fits.gz", Fetch())["status"] == "ok"


def test_a_file_that_is_here_but_lacks_its_hdus_is_fetched_again(tmp_path, archive):
    (tmp_path / "a.fits").write_bytes(content([fits.PrimaryHDU(), image(1, (3, 4), "f4", "OLD")]))
    archive.files["/a.fits"] = content([fits.PrimaryHDU(), image(1, (3, 4), "f4", "NEW")])
    row = fetch_file(Product("g", "maps", (f"{archive.url}/a.fits",), "a.fits", hdus=("NEW",)), tmp_path / "a.fits", Fetch())
    assert row["status"] == "ok"
    assert (tmp_path / "a.fits").read_bytes() == archive.files["/a.fits"]


@pytest.mark.parametrize("spoil", ["cut", "crc", "length", "junk behind", "second member cut", "good", "two members"])
def test_gzip_is_unpacked_to_its_last_byte(tmp_path, spoil):
    plain = content([fits.PrimaryHDU(), image(1, (80, 90), "f4", "A")], checksum=False)
    whole = gzip.compress(plain)
    two = gzip.compress(plain[:5000]) + gzip.compress(plain[5000:])
    made = {
        "cut": whole[:-100], "crc": whole[:-8] + b"abcd" + whole[-4:], "length": whole[:-4] + b"abcd", "junk behind": whole + b"abc",
        "second member cut": two[:-30], "good": whole, "two members": two,
    }[spoil]  # fmt: skip
    (tmp_path / "a.fits.gz").write_bytes(made)
    found = examine(tmp_path / "a.fits.gz", "a.fits.gz")
    assert bool(found.problem) == (spoil not in ("good", "two members"))
    if not found.problem:
        assert found.sha256 == hashlib.sha256(made).hexdigest()


def test_digests_are_those_of_the_file_as_it_is(tmp_path):
    body = gzip.compress(b"1,2\n")
    (tmp_path / "a.csv.gz").write_bytes(body)
    sha256, sha1 = hashlib.sha256(body).hexdigest(), hashlib.sha1(body).hexdigest()
    assert examine(tmp_path / "a.csv.gz", "a.csv.gz", sha256.upper(), sha1=sha1).problem == ""
    assert "SHA-256" in examine(tmp_path / "a.csv.gz", "a.csv.gz", "0" * 64, sha1=sha1).problem
    assert "SHA-1" in examine(tmp_path / "a.csv.gz", "a.csv.gz", sha256, sha1="0" * 40).problem


def test_a_file_of_any_size_is_checked_a_block_at_a_time(tmp_path):
    size = 80_000_000
    head = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 1), ("NAXIS1", size), ("DATASUM", "0")]).tostring().encode()
    packer = zlib.compressobj(1, wbits=31)
    with open(tmp_path / "zeros.fits.gz", "wb") as handle:  # a thousand times smaller than what it unpacks to
        handle.write(packer.compress(head))
        for _ in range(80):
            handle.write(packer.compress(bytes(1_000_000)))
        handle.write(packer.compress(bytes(-size % 2880)) + packer.flush())
    tracemalloc.start()
    assert examine(tmp_path / "zeros.fits.gz", "zeros.fits.gz").problem == ""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6, f"{peak / 1e6:.1f} MB held while 80 MB were checked"


def test_random_groups_and_missing_filling_are_fits():
    cards = [("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3), ("NAXIS1", 0), ("NAXIS2", 3), ("NAXIS3", 4), ("GROUPS", True)]
    head = fits.Header([*cards, ("PCOUNT", 1), ("GCOUNT", 2)]).tostring().encode()
    assert fits_problem(io.BytesIO(head + bytes(4 * 2 * (1 + 3 * 4)))) == ""
    assert "extension 0 ends after" in fits_problem(io.BytesIO(head + bytes(4 * 2 * (1 + 3 * 4) - 1)))
    whole = content([fits.PrimaryHDU(np.ones((3, 4), "f4"))], checksum=False)
    assert fits_problem(io.BytesIO(whole[: 2880 + 48])) == ""
    assert "extension 0 ends after" in fits_problem(io.BytesIO(whole[: 2880 + 47]))
    assert "not FITS" in fits_problem(io.BytesIO(b"SIMPLE  =                    T" + b" " * 2850))
    assert "NAXIS1" in fits_problem(io.BytesIO(whole.replace(b"NAXIS1  =                    4", b"NAXIS1  =                  4.5")))


def test_real_maps_pass_and_one_flipped_bit_in_them_does_not(shared, tmp_path):
    path = next((shared / "mirror/data.sdss.org/sas/dr17").rglob("manga-10001-3702-MAPS-*.fits.gz"))
    assert examine(path, path.name, hdus=HDUS).problem == ""
    plain = bytearray(gzip.decompress(path.read_bytes()))
    plain[len(plain) // 2] ^= 16
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(bytes(plain), 1))
    assert "DATASUM" in examine(tmp_path / "a.fits.gz", path.name, hdus=HDUS).problem


def test_a_table_may_have_one_of_several_names_or_none():
    named, nameless = (content([fits.PrimaryHDU(), table(1, 3, name)], checksum=False) for name in ("DAPALL", None))
    assert fits_problem(io.BytesIO(named), ("HYB10|DAPALL",)) == ""
    assert fits_problem(io.BytesIO(nameless), ("BINTABLE",)) == ""
    assert "expected HDU HYB10|MANGA is not in it; found: PRIMARY, DAPALL" in fits_problem(io.BytesIO(named), ("HYB10|MANGA",))
    assert "BINTABLE" in fits_problem(io.BytesIO(content([fits.PrimaryHDU(), image(1, (2, 3), "f4", "A")])), ("BINTABLE",))


@pytest.mark.parametrize(("name", "pack"), [("t.csv", bytes), ("t.csv.gz", gzip.compress)])
def test_a_csv_table_has_its_columns_in_its_first_line(tmp_path, name, pack):
    def problem(text, *columns):
        (tmp_path / name).write_bytes(pack(text))
        return examine(tmp_path / name, name, columns=columns).problem

    assert problem(b'\xef\xbb\xbfCATID, "Z_Spec",x\r\n1,2,3\r\n', "catid", "z_spec") == ""
    assert problem(b"catid,z\n1,z_spec\n", "catid", "z_spec") == "has no column z_spec; it begins: catid,z"
    assert "has no column catid" in problem(b'{"error":"not found"}', "catid")
    assert "has no column catid" in problem(b"x" * 300_000, "catid")
    assert problem(b'{"error":"not found"}') == ""
