"""Read a shard's MAPS files with Marvin; write what `tullyflow.surveys.manga.read` needs of each, one FITS per galaxy.

Runs by its path in Marvin's own environment (``envs/marvin.yaml``, or ``make marvin``), whose numpy is too old for this
package: so it imports nothing of it. Only local files are read, and nothing is sent or written anywhere else.

A galaxy's FITS has the names and units of its MAPS file, with the one line asked for in each extension: values, inverse
variances and mask bits as Marvin hands them over, the binning Marvin gives the line, and Marvin's sky axes. So the same code
makes galaxies of it. GSIGMA and INSTSIGMA stay apart: Marvin's own correction sets sigma^2 < 0 to zero and scales the inverse
variance by the ratio of the sigmas to the first power instead of the second.
"""

import argparse
import csv
import hashlib
import logging
import os
import sys
import tempfile
from pathlib import Path

LINE_MAPS = ("EMLINE_GFLUX", "EMLINE_GVEL", "EMLINE_GSIGMA", "EMLINE_INSTSIGMA")
OTHER_MAPS = ("SPX_SNR", "STELLAR_VEL")


def load_marvin(scratch: str):
    """Import Marvin with its home, logs and caches below ``scratch``, silent, local, and without its error reports."""
    for name in ("MANGADB_CONFIG", "MANGA_SPECTRO_REDUX", "MANGA_SPECTRO_ANALYSIS", "TREE_DIR"):
        os.environ.pop(name, None)
    os.environ |= {"HOME": scratch, "SAS_BASE_DIR": f"{scratch}/sas", "MARVIN_LOGS_DIR": scratch, "MPLCONFIGDIR": scratch,
                   "XDG_CONFIG_HOME": scratch, "XDG_CACHE_HOME": scratch, "MPLBACKEND": "agg"}  # fmt: skip
    logging.disable(logging.WARNING)
    import marvin  # its settings are read on import
    from marvin.tools.maps import Maps

    sys.excepthook = sys.__excepthook__  # Marvin's sends what went wrong to its authors
    marvin.config.use_sentry = False
    marvin.config.mode = "local"
    marvin.config.download = False
    return marvin, Maps


def read_galaxy(path: str, line: str, marvin, maps_class):
    """Return the HDU list of one galaxy.

    Raises whatever Marvin does about a file it does not take, and `ValueError` for pipeline versions Marvin does not know and
    where the file's header calls the channel that Marvin takes for the line by another name.
    """
    from astropy.io import fits

    stated = fits.getheader(path)
    version = f"{stated.get('VERSDRP3')} {stated.get('VERSDAP')}"
    known = [" ".join(marvin.config.lookUpVersions(release)) for release in marvin.config.get_allowed_releases(public=True)]
    if version not in known:
        raise ValueError(f"its pipeline version is {version}; Marvin takes {' or '.join(dict.fromkeys(known))}")
    maps = maps_class(filename=path, mode="local")
    primary = fits.PrimaryHDU(header=maps.header)
    for key in ("CHECKSUM", "DATASUM"):
        primary.header.remove(key, ignore_missing=True)
    primary.header["MARVIN"] = (marvin.__version__, "version of Marvin that read the MAPS file")
    primary.header["MARVREL"] = (maps.release, "release Marvin takes it for")
    sky = sky_header(maps.wcs)
    hdus = fits.HDUList([primary])

    def add(name, values, unit="", **cards):
        hdu = fits.ImageHDU(values, sky.copy(), name=name)
        hdu.header.update({"BUNIT": unit, **cards})
        hdus.append(hdu)

    for name in (*OTHER_MAPS, *LINE_MAPS):
        of_line = name in LINE_MAPS
        channel = "_" + line.lower().replace("-", "_") if of_line else ""
        got = maps.getMap(name.lower() + channel, exact=True)
        cards = {"C01": line} if of_line else {}
        if of_line:
            key = f"C{got.datamodel.channel.idx + 1:02d}"
            called = str(maps.data[name].header.get(key, "nothing")).strip()
            if called != line:
                raise ValueError(f"{name}: Marvin takes channel {key} for {line}, the header calls it {called}")
        add(name, got.value, got.unit.to_string("fits"), **cards)
        if got.ivar is not None:
            add(f"{name}_IVAR", got.ivar, (got.unit**-2).to_string("fits"), **cards)
        if got.mask is not None:
            add(f"{name}_MASK", got.mask, **cards)
        if name == "EMLINE_GVEL":
            add("BINID", got.binid)
    return hdus


def sky_header(wcs):
    """Return the sky axes as a header, to the last digit (astropy's own keeps twelve)."""
    header = wcs.to_header()
    for k, axis in enumerate(("1", "2")):
        for key, values in (("CRPIX", wcs.wcs.crpix), ("CRVAL", wcs.wcs.crval), ("CDELT", wcs.wcs.get_cdelt())):
            header[key + axis] = float(values[k])
        for j, other in enumerate(("1", "2")):
            header[f"PC{axis}_{other}"] = float(wcs.wcs.get_pc()[k, j])
    return header


def refusal(err: Exception):
    """Return an HDU list that says why Marvin cannot read a galaxy."""
    from astropy.io import fits

    hdu = fits.PrimaryHDU()
    hdu.header["REFUSED"] = f"{type(err).__name__}: {' '.join(str(err).split())}"[:400].encode("ascii", "replace").decode()
    return fits.HDUList([hdu])


def read_shard(manifest: Path, line: str, out: Path, folder: Path) -> None:
    """Read every MAPS file the manifest lists as ok; write ``folder``/GALAXY.fits and a manifest with a row more for each.

    The new rows have the product ``marvin``. A galaxy Marvin cannot read has a FITS without maps that says why.
    """
    with open(manifest, newline="", encoding="utf-8") as handle:
        table = csv.DictReader(handle)
        columns, rows = list(table.fieldnames or ()), list(table)
    folder.mkdir(parents=True, exist_ok=True)
    listed, refused = [], 0
    with tempfile.TemporaryDirectory(prefix="marvin-") as scratch:
        marvin, maps_class = load_marvin(scratch)
        for row in rows:
            listed.append(row)
            if row["product"] != "maps" or row["status"] != "ok":
                continue
            try:
                hdus = read_galaxy(row["path"], line, marvin, maps_class)
            except Exception as err:  # Marvin's errors share no base class: assertions, KeyErrors, MarvinErrors
                hdus = refusal(err)
                refused += 1
            listed.append(write(hdus, folder / f"{row['galaxy']}.fits", row))
            print(f"manga {row['galaxy']}: {listed[-1]['message'] or 'read by Marvin ' + marvin.__version__}", flush=True)
    with open(f"{out}.part", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(listed)
    os.replace(f"{out}.part", out)
    print(f"{out}: {len(listed) - len(rows)} galaxies, {refused} of them not readable for Marvin", flush=True)


def write(hdus, path: Path, row: dict) -> dict:
    """Write a galaxy's FITS, whole or not at all, and return its manifest row."""
    part = path.with_suffix(".part")
    hdus.writeto(part, overwrite=True, output_verify="silentfix+ignore")
    os.replace(part, path)
    stat = path.stat()
    said = hdus[0].header.get("REFUSED", "")
    return {
        "galaxy": row["galaxy"], "product": "marvin", "url": row["url"], "path": str(path), "status": "ok", "http_status": 0,
        "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "tries": 1,
        "message": f"not readable for Marvin: {said}" if said else "",
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True, type=Path, help="manifest of fetched files (CSV)")
    parser.add_argument("--line", required=True, help="emission line, by its header name, e.g. Ha-6564")
    parser.add_argument("--out", required=True, type=Path, help="manifest to write, with a row more for each galaxy (CSV)")
    parser.add_argument("--folder", required=True, type=Path, help="folder of the FITS files to write")
    arguments = parser.parse_args()
    read_shard(arguments.manifest, arguments.line, arguments.out, arguments.folder)
