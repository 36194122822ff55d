"""`tullyflow usability`: a row for each of one's own maps, whatever their files hold."""

import io

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from tullyflow.cli import main
from tullyflow.tables import USABILITY

COLUMNS = [c.name for c in USABILITY]


@pytest.fixture
def folder(tmp_path):
    """Maps of 44x40 pixels: a disc with its stars, the same blank, all alike, four pixels, a spectrum, and a torn file."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:44, :40]
    along, across = 0.8 * (x - 19) + 0.6 * (y - 22), (0.8 * (y - 22) - 0.6 * (x - 19)) / 0.7
    radius = np.hypot(along, across)
    disc = np.where(radius < 17, 1700 + 120 * np.arctan(radius / 4) * along / np.maximum(radius, 0.1) + rng.normal(0, 3, x.shape), np.nan)
    few = np.full(disc.shape, np.nan)
    few[20, 18:22] = (1.0, 2.0, 3.0, 9.0)
    maps = {"disc": disc, "blank": np.full(disc.shape, np.nan), "alike": np.where(np.isfinite(disc), 70.0, np.nan), "few": few,
            "spectrum": disc[22]}  # fmt: skip
    for name, image in maps.items():
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="V"), fits.ImageHDU(0.8 * (image - 1700), name="STARS")]
        fits.HDUList(hdus).writeto(tmp_path / f"{name}.fits")
    (tmp_path / "torn.fits").write_bytes((tmp_path / "disc.fits").read_bytes()[:12000])
    return tmp_path


def judged(arguments, capsys):
    assert main(["usability", *map(str, arguments)]) == 0
    return pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=True)


def test_every_map_has_its_row_in_order_and_says_why_it_cannot_be_judged(folder, capsys):
    names = ["blank", "disc", "torn", "alike", "few", "spectrum", "nowhere"]
    frame = judged([*(folder / f"{name}.fits" for name in names), "--hdu", "V", "--stars", "STARS"], capsys)
    assert list(frame) == COLUMNS and frame["galaxy"].tolist() == names
    disc = frame.set_index("galaxy").loc["disc"]
    assert disc["usable_prob"] > 0.9 and disc["usable_class"] == 1 and disc["usable_stellar_prob"] > 0.9
    assert disc["kappa"] > 0.7 and 0 < disc["kappa_err"] < 0.4
    others = frame.set_index("galaxy").drop("disc")
    assert others[["usable_prob", "kappa", "kappa_err"]].isna().all(axis=None) and (others["usable_class"] == -1).all()
    for name, flag in (("blank", "NO_VALID_PIXEL"), ("torn", "UNREADABLE_FILE"), ("alike", "NO_ROTATION"), ("few", "TOO_FEW_PIXELS"),
                       ("spectrum", ""), ("nowhere", "MISSING_FILE")):  # fmt: skip
        assert flag in str(others["flags"][name]) and len(str(others["messages"][name])) > 10, name
    assert isinstance(others["flags"]["spectrum"], str)


def test_a_catalogue_gives_the_same_rows(folder, capsys):
    table = folder / "galaxies.csv"
    pd.DataFrame({"galaxy": ["a_disc", "lost"], "velocity": ["disc.fits", "nowhere.fits"], "velocity_hdu": "V"}).to_csv(table, index=False)
    out = folder / "judged.csv"
    assert main(["usability", "--catalogue", str(table), "--out", str(out), "--threads", "2"]) == 0
    frame = pd.read_csv(out).set_index("galaxy")
    assert frame.index.tolist() == ["a_disc", "lost"] and [frame.index.name, *frame] == COLUMNS
    alone = judged([folder / "disc.fits", "--hdu", "V"], capsys).iloc[0]
    assert frame.loc["a_disc", "usable_prob"] == pytest.approx(alone["usable_prob"], abs=2e-4)
    assert frame.loc["lost", "usable_class"] == -1 and "MISSING_FILE" in frame.loc["lost", "flags"]
    assert "nowhere.fits" in frame.loc["lost", "messages"]


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "give velocity maps FILE.fits ..., or --catalogue"),
    (["disc.fits", "--catalogue", "galaxies.csv"], "give velocity maps FILE.fits ..., or --catalogue"),
    (["nowhere.fits"], "nowhere.fits: no such file"),
    (["disc.fits", "--hdu", "V", "--out", "table.txt"], ".csv or .parquet"),
    (["disc.fits", "--hdu", "V", "--usability", "nowhere"], "nowhere"),
    (["--catalogue", "galaxies.csv", "--centre", "3", "4"], "--centre is for one FILE"),
])  # fmt: skip
def test_a_wrong_question_is_answered_with_one_sentence(folder, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(folder)
    assert main(["usability", *arguments]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
