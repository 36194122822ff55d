"""Wiring of the small tools for one's own files: what each takes on the command line, and the one function it calls."""

import argparse
import json
import math
import os
import re
from functools import partial
from pathlib import Path

from tullyflow.errors import SettingsError

__all__ = ["add_tools"]

# options that a table says by its columns
_ONE_FILE = ("error", "mask", "mask_hdu", "intensity", "intensity_hdu", "centre", "pixel_scale", "plot", "json")


def add_tools(commands) -> None:
    """Add the tools to the subcommands of ``tullyflow``. Their log goes to stderr, so that stdout can be read by a program."""
    _add_position_angle(commands)
    _add_usability(commands)
    _add_moments(commands)
    _add_galaxy(commands)
    _add_fit_line(commands)
    _add_explain(commands)
    _add_page(commands)


def _tool(commands, name: str, function, summary: str, settings: bool = True) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    parser.set_defaults(function=partial(_in_one_sentence, function), log_to_stderr=True)
    if settings:
        parser.add_argument("--settings", help="config file (YAML) whose section maps is used; none is needed")
    return parser


def _in_one_sentence(function, args) -> None:
    """Run a tool; a place that cannot be written to is the caller's mistake."""
    try:
        function(args)
    except BrokenPipeError:
        raise
    except OSError as err:
        named = re.sub(r"\.([^/]+)\.\d+\.part", r"\1", str(err.filename or ""))  # a file is written beside its place first
        place = named or getattr(args, "plot", None) or getattr(args, "out", None) or "stdout"
        raise SettingsError(f"{place}: {err.strerror or err}.") from err


def _check_folder(folder: Path) -> None:
    """Raise `SettingsError` where nothing could be written into a folder (made where there is none), before any work is done."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise SettingsError(f"{folder}: {there} is a file; name a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SettingsError(f"{folder}: {there} cannot be written to.")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise SettingsError(f"{path}: this is a folder; name a file.")
    _check_folder(path.parent)


def _add_position_angle(commands) -> None:
    parser = _tool(commands, "position-angle", _position_angle, "kinematic position angle and systemic velocity of your velocity maps")
    add = parser.add_argument
    add("file", nargs="?", type=Path, metavar="FILE.fits", help="velocity map (km/s, or what BUNIT says)")
    _add_map_options(parser)
    add("--json", action="store_true", help="print JSON")
    add("--plot", type=Path, metavar="OUT.png", help="draw the map with its axis, and the curve of chi-squared")
    add("--catalogue", type=Path, metavar="GALAXIES.csv", help="table of galaxies (columns: config/README.md) instead of one FILE")
    add("--out", type=Path, metavar="TABLE.csv", help="table to write, one row per row of the catalogue (.csv or .parquet)")
    add("--threads", type=int, default=1, metavar="N", help="processes for a catalogue (default 1)")


def _add_map_options(parser: argparse.ArgumentParser) -> None:
    """What says where in a file the velocities are, and what belongs to them."""
    add = parser.add_argument
    add("--hdu", default="", metavar="NAME", help="extension of the velocities, name or number (default: the first image)")
    add("--error", type=Path, metavar="FILE", help="file of the velocity errors (default: none, one constant error)")
    add("--error-hdu", default="", metavar="NAME", help="extension of the velocity errors, in --error or in the map's file")
    add("--mask", type=Path, metavar="FILE", help="file of a mask; pixels that are not 0 are left out")
    add("--mask-hdu", default="", metavar="NAME", help="extension of the mask, in --mask or in the map's file")
    add("--intensity", type=Path, metavar="FILE", help="file of the intensity: faint pixels (maps.snr_min) are left out")
    add("--intensity-hdu", default="", metavar="NAME", help="extension of the intensity, in --intensity or in the map's file")
    add("--stars", default="", metavar="NAME", help="extension of the stars' velocities: their axis and the misalignment too")
    add("--plane", default="", metavar="N|NAME", help="plane of extensions with three axes: number from 1, or line (header's C01, ...)")
    add("--blank", type=float, nargs="+", default=[], metavar="VALUE", help="values that mean 'no data' besides NaN, e.g. 0 -999")
    add("--centre", type=float, nargs=2, metavar=("X", "Y"), help="centre of rotation, pixels from 0 (default: the reference pixel)")
    add("--fit-centre", action="store_true", help="let the centre move to where the map is most antisymmetric")
    add("--north-up", action="store_true", help="a map without sky axes has north up and east left")
    add("--pixel-scale", type=float, metavar="ARCSEC", help="pixel size of a map without sky axes, for the plot's scale")


def _map_file(args, path: Path):
    """The map of ``path``, with what the options say of it."""
    from tullyflow.tools.axis import MapFile

    if args.pixel_scale is not None and not args.pixel_scale > 0:
        raise SettingsError(f"--pixel-scale: {args.pixel_scale:g}; a positive number of arcsec is needed.")
    return MapFile(
        path, args.hdu, args.error, args.error_hdu, args.mask, args.mask_hdu, args.intensity, args.intensity_hdu, args.stars,
        tuple(args.centre) if args.centre else None, args.pixel_scale or math.nan, args.plane,
    )  # fmt: skip


def _settings(args, **over):
    """Settings of the file, if there is one, with the options laid over."""
    from tullyflow.settings import load_settings, parse_settings

    data = load_settings(args.settings).for_survey("local").model_dump(mode="json") if args.settings else {}
    for section, values in over.items():
        data[section] = {**data.get(section, {}), **values} if isinstance(values, dict) else values
    return parse_settings(data, source="options" if over else "settings")


def _position_angle(args) -> None:
    if (args.file is None) == (args.catalogue is None):
        raise SettingsError("position-angle: give one velocity map FILE.fits, or --catalogue GALAXIES.csv with --out TABLE.csv.")
    blank = {"maps": {"blank": args.blank}} if args.blank else {}
    if args.catalogue is not None:
        _position_angles(args, blank)
        return
    from tullyflow.tools.axis import find_axes, read_map_file, words

    if args.out is not None:
        raise SettingsError("position-angle: --out is the table of a --catalogue; for one FILE use --json or --plot.")
    file = _map_file(args, args.file)
    if args.plot is not None:
        _check_file(args.plot)
    settings = _settings(args, **blank)
    axes = find_axes(read_map_file(file, settings), settings, north_up=args.north_up, fit_centre=args.fit_centre)
    if args.json:
        row = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in axes.row().items()}
        print(json.dumps(row, indent=1))
    else:
        print(words(axes))
    if args.plot is not None:
        from tullyflow.report.figures.axis import plot_axes
        from tullyflow.report.figures.style import save_picture

        save_picture(plot_axes(axes), args.plot)


def _position_angles(args, blank) -> None:
    _check_columns_say(args)
    if args.out is None:
        raise SettingsError("position-angle: --catalogue needs --out TABLE.csv, the table to write.")
    from tullyflow.tools.axis_table import find_axes_of_table, write_axes
    from tullyflow.tools.table_rows import Defaults, check_out

    check_out(args.out)
    _check_file(args.out)
    settings = _settings(args, catalogue=str(args.catalogue), **blank)
    defaults = Defaults(args.hdu, args.error_hdu, args.stars, args.plane)
    frame = find_axes_of_table(settings, defaults, args.threads, north_up=args.north_up, fit_centre=args.fit_centre)
    write_axes(args.out, frame)


def _check_columns_say(args) -> None:
    unused = [name for name in _ONE_FILE if getattr(args, name, None)]
    if unused:
        raise SettingsError(f"--{unused[0].replace('_', '-')} is for one FILE; with --catalogue the table's columns say it.")


def _add_usability(commands) -> None:
    parser = _tool(commands, "usability", _usability, "would an eye use your velocity maps, and how circular is the motion they show")
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="FILE.fits", help="velocity maps, one galaxy each; the options hold for all")
    _add_map_options(parser)
    add("--catalogue", type=Path, metavar="GALAXIES.csv", help="table of galaxies (columns: config/README.md) instead of FILEs")
    add("--out", type=Path, metavar="TABLE.csv", help="table to write, one row per galaxy, .csv or .parquet (default: CSV on stdout)")
    add("--threads", type=int, default=1, metavar="N", help="processes that read a catalogue's maps (default 1)")
    add("--usability", type=Path, metavar="DIR", help="folder of a network of usability (default: the one that ships)")
    add("--circularity", type=Path, metavar="DIR", help="folder of a network of circularity (default: the one that ships)")


def _usability(args) -> None:
    if bool(args.files) == (args.catalogue is not None):
        raise SettingsError("usability: give velocity maps FILE.fits ..., or --catalogue GALAXIES.csv.")
    from tullyflow.tools.table_rows import Defaults, check_out

    if args.catalogue is not None:
        _check_columns_say(args)
    if args.out is not None:
        check_out(args.out)
        _check_file(args.out)
    blank = {"maps": {"blank": args.blank}} if args.blank else {}
    files = [_map_file(args, path) for path in args.files]
    from tullyflow.network.judges.judged import load_judges
    from tullyflow.tables import USABILITY, write_table
    from tullyflow.tools.usability import judge_files, judge_table

    judges = load_judges(args.usability, args.circularity)
    if args.catalogue is None:
        frame = judge_files(files, _settings(args, **blank), judges)
    else:
        settings = _settings(args, catalogue=str(args.catalogue), **blank)
        frame = judge_table(settings, Defaults(args.hdu, args.error_hdu, args.stars, args.plane), judges, args.threads)
    if args.out is None:
        print(frame.to_csv(index=False, float_format="%.4f"), end="")
    else:
        write_table(args.out, frame, USABILITY)


def _add_moments(commands) -> None:
    parser = _tool(commands, "moments", _moments, "moment maps of a spectral-line cube, with errors and a page to look at")
    parser.add_argument("cube", type=Path, metavar="CUBE.fits", help="cube with one spectral axis (frequency or velocity)")
    parser.add_argument("--hdu", default="", metavar="N", help="extension of the cube, name or number (default: the first image)")
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="folder to write into (default: here)")


def _moments(args) -> None:
    from tullyflow.tools.line_moments import write_moments

    _check_folder(args.out)
    write_moments(args.cube, _settings(args), args.out, args.hdu)


def _add_galaxy(commands) -> None:
    parser = _tool(commands, "galaxy", _galaxy, "a page of one galaxy: its disc by a trained network, with errors, model and residual")
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE.fits", help="velocity maps, or cubes, one galaxy each; the options hold for all")
    add("--weights", type=Path, metavar="DIR", help="folder of a trained network (of a run: results/RUN/network/SURVEY-RELEASE)")
    add("--out", type=Path, default=Path(), metavar="FOLDER", help="where each galaxy gets a folder of its own (default: here)")
    _add_map_options(parser)
    add("--axis-ratio", type=float, metavar="Q", help="photometric b/a: with --r-e it stands in for an intensity map")
    add("--r-e", type=float, metavar="ARCSEC", help="half-light radius along the major axis")
    add("--psf", type=float, metavar="ARCSEC", help="FWHM of the beam or PSF (default: the header's, else none)")
    add("--json", action="store_true", help="print the parameters as JSON, one line per galaxy")


def _galaxy(args) -> None:
    known = {"axis_ratio": args.axis_ratio, "r_e_arcsec": args.r_e, "psf_fwhm_arcsec": args.psf}
    known = {name: value for name, value in known.items() if value is not None}
    for option, value in (("--r-e", args.r_e), ("--psf", args.psf)):
        if value is not None and not value > 0:
            raise SettingsError(f"{option}: {value:g}; a positive number of arcsec is needed.")
    if args.axis_ratio is not None and not 0 < args.axis_ratio <= 1:
        raise SettingsError(f"--axis-ratio: {args.axis_ratio:g}; it must be above 0 and at most 1 (minor over major axis).")
    files = [_map_file(args, path) for path in args.files]
    _check_folder(args.out)
    from tullyflow.tools.galaxy import find_galaxy, galaxy_name, read_galaxy, read_weights
    from tullyflow.tools.galaxy_files import record, words, write_galaxy

    names = [galaxy_name(file.path) for file in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"galaxy: {len(names)} files, of which several are called {twice[0]}: their pages would be one.")
    maps = {**({"blank": args.blank} if args.blank else {}), **({"centre": "kinematic"} if args.fit_centre else {})}
    checkpoint, settings = read_weights(args.weights, _settings(args, **({"maps": maps} if maps else {})))
    for name, file in zip(names, files, strict=True):
        read = read_galaxy(file, settings, known, north_up=args.north_up)
        found = find_galaxy(read.maps, file.path, checkpoint, settings, known, positioned=read.positioned)
        written = write_galaxy(found, args.out / name)
        print(json.dumps(record(found)) if args.json else words(found, written))


def _add_fit_line(commands) -> None:
    parser = _tool(commands, "fit-line", _fit_line, "a line through two columns of your table", settings=False)
    add = parser.add_argument
    add("table", type=Path, metavar="TABLE", help="CSV, TSV, ECSV, FITS, Parquet or VOTable; rows with a missing value are left out")
    add("--x", required=True, metavar="COL", help="column of x")
    add("--y", required=True, metavar="COL", help="column of y; the scatter is in y")
    add("--xerr", default="", metavar="COL|NUMBER", help="1 sigma of x: a column, or one number for all")
    add("--yerr", default="", metavar="COL|NUMBER", help="1 sigma of y: a column, or one number for all")
    add("--upper", default="", metavar="COL", help="column that is true where y is an upper limit (mnr alone takes them)")
    for axis in "xy":
        add(f"--{axis}-range", type=float, nargs=2, metavar=("LOW", "HIGH"), default=(-math.inf, math.inf),
            help=f"the sample was selected by its measured {axis}, within these limits (inf: none); mnr alone accounts for it")  # fmt: skip
    add("--method", default="lts", choices=("lts", "mnr", "ols", "bisector"),
        help="least trimmed squares (default), marginalised normal regression, ordinary least squares, or the bisector: the last two for "
             "comparison, since they know neither errors nor outliers")  # fmt: skip
    add("--pivot", default="median", metavar="median|VALUE", help="x at which the intercept is given (default: the median of x)")
    add("--clip", type=float, default=2.6, metavar="SIGMA", help="of lts: outliers are further from the line (default 2.6)")
    add("--seed", type=int, default=0, metavar="N", help="of lts and mnr: the same seed gives the same fit (default 0)")
    add("--json", action="store_true", help="print JSON, with the covariance and every outlier")
    add("--plot", type=Path, metavar="OUT.png", help="draw points, line, intrinsic scatter and residuals (.png or .pdf)")


def _fit_line(args) -> None:
    from tullyflow.tools.fit_line import fit_table, record, words
    from tullyflow.tools.line_table import Columns, open_table

    if args.plot is not None:
        _check_file(args.plot)
    columns = Columns(args.x, args.y, args.xerr, args.yerr, args.upper)
    ranges = tuple(args.x_range), tuple(args.y_range)
    found = fit_table(open_table(args.table), columns, args.method, args.pivot, args.clip, args.seed, *ranges)
    if args.plot is not None:
        from tullyflow.report.figures.line import plot_line
        from tullyflow.report.figures.style import save_picture

        save_picture(plot_line(found), args.plot)
    print(json.dumps(record(found), indent=1) if args.json else words(found))


def _add_explain(commands) -> None:
    parser = _tool(commands, "explain", _explain, "the story of one galaxy of a run: what was found, every cut, and why", settings=False)
    add = parser.add_argument
    _add_galaxy_of_run(parser)
    add("--json", action="store_true", help="print JSON")


def _add_galaxy_of_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("galaxy", metavar="GALAXY", help="its name, or where several are called so RELEASE/NAME or SURVEY-RELEASE/NAME")
    add("--run", metavar="RUN", help="name of the run, results/RUN (default: the only one here, or the newest)")
    add("--sample", type=Path, metavar="PATH", help="sample.parquet of a run elsewhere, instead of --run")
    add("--survey", metavar="S", help="only galaxies of this survey")


def _sample_of_run(args) -> Path:
    from tullyflow.tools.explain import find_sample

    if args.run is not None and args.sample is not None:
        raise SettingsError("--run and --sample both name a table; give one of them.")
    return args.sample or find_sample(args.run)


def _add_page(commands) -> None:
    parser = _tool(commands, "page", _page, "the page of one galaxy of a run: maps, rotation curve, story", settings=False)
    _add_galaxy_of_run(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="page to write (default: in the run's report)")


def _page(args) -> None:
    from tullyflow.tools.page import make_page

    if args.out is not None:
        _check_file(args.out)
    print(make_page(_sample_of_run(args), args.galaxy, args.survey, args.out))


def _explain(args) -> None:
    from tullyflow.tools.explain import explain, record, words

    found = explain(_sample_of_run(args), args.galaxy, args.survey)
    print(json.dumps(record(found), indent=1, ensure_ascii=False) if args.json else words(found))
