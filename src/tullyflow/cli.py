"""The command `tullyflow`: parse, call one library function, write, exit. Stages in the order a galaxy walks."""

import argparse
import logging
import os
import sys
from pathlib import Path

from tullyflow import __version__
from tullyflow.cli_tools import add_tools
from tullyflow.errors import FetchError, TullyflowError

__all__ = ["main"]

_EPILOG = "Each stage is a command of its own; `snakemake --cores 2` runs them all. Settings: config/README.md."


def _settings(args: argparse.Namespace, survey: str | None = None):
    """Settings from the JSON of a rule (already laid over for the survey) or from a file."""
    from tullyflow.settings import load_settings

    settings = load_settings(args.settings).in_checkout()
    if survey is None or str(args.settings).lstrip().startswith("{"):
        return settings
    return settings.for_survey(survey)


def _survey_of(targets: Path) -> str:
    from tullyflow.tables import TARGETS, read_table

    return read_table(targets, TARGETS)["survey"].iloc[0]


def _mock(args):
    from tullyflow.surveys.mock import make_archive

    make_archive(_settings(args), args.out, threads=args.threads)


def _checked_settings(args):
    """Settings of a file, in the folders of its run, with releases that exist."""
    from tullyflow.fetch.preflight import resolve_releases

    if args.settings is None:
        args.settings = "{}"
    return resolve_releases(_settings(args).in_place(), source=str(args.settings) if Path(args.settings).is_file() else "settings")


def _fetch(args):
    if args.plan:
        from tullyflow.fetch.plan import plan_lines

        print("\n".join(plan_lines(_checked_settings(args), args.survey, args.release, args.settings)))
        return
    from tullyflow.fetch.manifest import fetch_catalogue, fetch_shard
    from tullyflow.fetch.preflight import check_release

    if args.out is None:
        raise TullyflowError("fetch: give --out MANIFEST.csv, the manifest to write (or --plan, which fetches nothing).")
    if args.targets:
        fetch_shard(args.targets, _settings(args, _survey_of(args.targets)), args.out)
    elif args.survey and args.release:
        settings = _settings(args, args.survey)
        check_release(args.survey, args.release, settings)
        fetch_catalogue(args.survey, args.release, settings, args.out)
    else:
        raise TullyflowError("fetch: give --targets SHARD.parquet, or --survey and --release for the catalogues.")


def _releases(args):
    from tullyflow.fetch.archives import check_archives
    from tullyflow.fetch.releases_page import check_lines, holding_lines

    settings = _checked_settings(args)
    if not args.check:
        print("\n".join(holding_lines(settings)))
        return
    check = check_archives(settings)
    print("\n".join(check_lines(check, settings)))
    if check.unanswered:
        raise FetchError("releases: no archive answered; nothing is known of changes or new releases. Is there a network?")


def _targets(args):
    from tullyflow.surveys.catalogue import list_targets

    list_targets(args.survey, args.release, args.manifest, _settings(args, args.survey), args.out, args.shard_size)


def _names(args):
    from tullyflow.surveys.asked import check_asked

    check_asked(_settings(args), args.targets, args.out)


def _maps(args):
    from tullyflow.maps.shards import build_shard

    build_shard(args.manifest, args.targets, _settings(args, _survey_of(args.targets)), args.out, threads=args.threads)


def _pretrain(args):
    from tullyflow.network.allocator import keep_freed_memory
    from tullyflow.network.training import pretrain

    keep_freed_memory()
    pretrain(_settings(args, args.survey), args.out)


def _train(args):
    from tullyflow.network.allocator import keep_freed_memory
    from tullyflow.network.training import train

    keep_freed_memory()
    train(args.maps, args.initial, _settings(args, args.survey), args.out)


def _infer(args):
    from tullyflow.network.allocator import keep_freed_memory
    from tullyflow.network.inference import infer

    keep_freed_memory()
    settings = _settings(args, _survey_of(args.targets))
    infer(args.maps, args.targets, args.weights, settings, args.out, args.models, args.usability, args.circularity)


def _train_usability(args):
    from tullyflow.network.allocator import keep_freed_memory
    from tullyflow.network.judges.usability_training import train

    keep_freed_memory()
    train(args.maps, args.labels, _settings(args, args.survey), args.out)


def _simulate_fields(args):
    from tullyflow.network.judges.circularity_maps import simulate

    simulate(_settings(args), args.out, threads=args.threads)


def _train_circularity(args):
    from tullyflow.network.allocator import keep_freed_memory
    from tullyflow.network.judges.circularity import train

    keep_freed_memory()
    train(args.fields, _settings(args), args.out)


def _threshold(args):
    from tullyflow.relation.quality import freeze_threshold

    freeze_threshold(args.kinematics, _settings(args), args.out)


def _select(args):
    from tullyflow.relation.quality import select_sample

    select_sample(args.targets, args.maps, args.kinematics, args.threshold, _settings(args), args.out)


def _merge(args):
    from tullyflow.relation.quality import merge_samples

    merge_samples(args.samples, args.out)


def _relation(args):
    from tullyflow.relation.tully_fisher import fit_relation

    fit_relation(args.sample, args.relation, args.velocity, args.method, _settings(args), args.out)


def _groups(args):
    from tullyflow.relation.groups import fit_groups

    fit_groups(args.sample, _settings(args), args.out)


def _choices(args):
    from tullyflow.relation.choices import vary_choices

    vary_choices(args.sample, _settings(args), args.out)


def _trends(args):
    from tullyflow.relation.trends import measure_trends

    measure_trends(args.sample, args.relations, _settings(args), args.out)


def _fit_tables(args):
    from tullyflow.relation.fit_tables import tabulate_fits

    tabulate_fits(args.relations, args.out, args.tex)


def _closure(args):
    from tullyflow.relation.closure import check_closure

    check_closure(args.sample, args.truth, args.relations, _settings(args), args.out)


def _figure(args):
    from tullyflow.report.figures.draw import draw_figure

    draw_figure(args.name, args.sample, args.relations, _settings(args), args.out, args.trends, args.choices)


def _report(args):
    from tullyflow.report.page import build_report

    build_report(
        sample_path=args.sample, relation_paths=args.relations, models_paths=args.models, maps_paths=args.maps,
        network_dirs=args.networks, benchmarks_dir=args.benchmarks, closure_path=args.closure,
        settings=_settings(args), out_dir=args.out, groups_path=args.groups, choices_path=args.choices, trends_path=args.trends,
        figures=args.figures,
    )  # fmt: skip


_OPTIONS = {
    "out": dict(required=True, type=Path, help="file or folder to write"),
    "manifest": dict(required=True, type=Path, help="manifest of fetched files (CSV)"),
    "targets": dict(required=True, type=Path, help="target list of a shard (Parquet)"),
    "maps": dict(required=True, type=Path, help="stamps of a shard (FITS)"),
    "kinematics": dict(required=True, type=Path, help="kinematics of a shard (Parquet)"),
    "threshold": dict(required=True, type=Path, help="frozen reconstruction threshold (JSON)"),
    "sample": dict(required=True, type=Path, help="the merged sample (Parquet)"),
    "weights": dict(required=True, type=Path, help="folder of a trained network"),
    "models": dict(required=True, type=Path, help="FITS of models and rotation curves to write"),
    "survey": dict(required=True, choices=["manga", "sami", "things", "local"], metavar="SURVEY", help="manga, sami, things or local"),
    "release": dict(required=True, help="release, e.g. DR17; 'user' for local"),
    "relation": dict(required=True, choices=["reverse", "forward", "r_band", "baryonic"], help="which relation"),
    "velocity": dict(required=True, choices=["v_max", "v_22", "v_re", "v_80", "v_rmax"], help="which velocity"),
    "method": dict(required=True, choices=["lts", "mnr", "ols", "bisector"], help="which fit"),
    "truth": dict(required=True, type=Path, help="truth table of the mock archive (Parquet)"),
    "threads": dict(type=int, default=1, help="processes (default 1)"),
}


def _many(what: str, required: bool = True) -> dict:
    return dict(nargs="+" if required else "*", required=required, default=[], type=Path, help=what)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tullyflow", description="From survey maps to the Tully-Fisher relation.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"tullyflow {__version__}")
    stages = parser.add_subparsers(title="stages, in the order a galaxy walks; tools for your own files", metavar="COMMAND", required=True)

    def stage(name, function, summary, *options, **others):
        sub = stages.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name not in ("merge", "fit-tables"):
            sub.add_argument("--settings", required=name != "releases", help="config file (YAML), or JSON of the sections used")
        for option in options:
            sub.add_argument(f"--{option}", **_OPTIONS[option])
        for option, arguments in others.items():
            sub.add_argument(f"--{option.replace('_', '-')}", **arguments)
        sub.set_defaults(function=function)
        return sub

    optional = {key: {**_OPTIONS[key], "required": False} for key in ("targets", "survey", "release")}
    stage("mock", _mock, "make a small archive of simulated galaxies in the surveys' own layouts", "out", "threads")
    stage("fetch", _fetch, "fetch a shard's files, or the catalogues of a release; write the manifest", **optional,
          out={**_OPTIONS["out"], "required": False},
          plan=dict(action="store_true", help="fetch nothing; say how many files and bytes would come, and whether they fit"))  # fmt: skip
    stage("targets", _targets, "list the galaxies of a release, in shards", "survey", "release", "manifest", "out",
          shard_size=dict(type=int, default=200, help="galaxies per shard (default 200)"))  # fmt: skip
    stage("names", _names, "check that every galaxy asked for by name is in a release", "out",
          targets=dict(required=True, type=Path, help="folder of the target lists of all releases"))  # fmt: skip
    stage("maps", _maps, "mask, find the position angle, and cut 64x64 stamps", "manifest", "targets", "out", "threads")
    stage("pretrain", _pretrain, "train a network on synthetic discs", "out", survey=optional["survey"])
    stage("train", _train, "train a survey's network on its own stamps, without labels", "out", survey=optional["survey"],
          maps=_many("stamps to train on (FITS)"), initial=dict(type=Path, help="folder of initial weights"))  # fmt: skip
    stage("train-usability", _train_usability, "train a network on classes of velocity fields by eye", "out", survey=optional["survey"],
          maps=_many("stamps with their fields (FITS)"), labels=dict(required=True, type=Path, help="table of classes (CSV)"))  # fmt: skip
    stage("simulate-fields", _simulate_fields, "make velocity fields of simulated galaxies whose circularity is known", "out", "threads")
    stage("train-circularity", _train_circularity, "train a network on such fields", "out",
          fields=dict(required=True, type=Path, help="simulated velocity fields"))  # fmt: skip
    stage("infer", _infer, "infer disc parameters with errors, and judge the velocity fields",
          "maps", "targets", "weights", "out", "models",
          usability=dict(type=Path, help="folder of a network of usability (default: the one that ships)"),
          circularity=dict(type=Path, help="folder of a network of circularity (default: the one that ships)"))  # fmt: skip
    stage("threshold", _threshold, "freeze the reconstruction cut of a survey", "out", kinematics=_many("kinematics (Parquet)"))
    stage("select", _select, "apply every cut and correction to a shard; nobody is dropped",
          "targets", "maps", "kinematics", "threshold", "out")  # fmt: skip
    stage("merge", _merge, "put the samples of all shards into one table", "out", samples=_many("samples (Parquet)"))
    stage("relation", _relation, "fit one Tully-Fisher relation", "sample", "relation", "velocity", "method", "out")
    stage("groups", _groups, "fit every relation per survey and per class", "sample", "out")
    stage("choices", _choices, "fit the first relation again with each choice changed", "sample", "out")
    stage("trends", _trends, "correlate velocities and residuals with what galaxies are made of", "sample", "out",
          relations=_many("fits (JSON)"))  # fmt: skip
    stage("fit-tables", _fit_tables, "write all fits as ECSV and as a LaTeX table", "out", relations=_many("fits (JSON)"),
          tex=dict(required=True, type=Path, help="LaTeX file to write"))  # fmt: skip
    stage("closure", _closure, "compare a mock run with the truth it was made from", "sample", "truth", "out",
          relations=_many("fits (JSON)"))  # fmt: skip
    figure = stage("figure", _figure, "draw one figure of a run: PNG, PDF and the data behind it", "sample",
                   out=dict(required=True, type=Path, help="the three files, without their suffix"),
                   relations=_many("the fits it draws (JSON)", required=False), trends=dict(type=Path, help="rank correlations (JSON)"),
                   choices=dict(type=Path, help="what each choice changes (JSON)"))  # fmt: skip
    figure.add_argument("name", metavar="NAME", help="properties, reverse, age, ...: a wrong name lists them all")
    stage("report", _report, "write the HTML report", "sample", "out",
          relations=_many("fits (JSON)"), models=_many("models (FITS)"), maps=_many("stamps (FITS)"),
          networks=_many("folders of trained networks", required=False), benchmarks=dict(type=Path, help="folder of benchmarks"),
          closure=dict(type=Path, help="closure table of a mock run (JSON)"), groups=dict(type=Path, help="fits by group (JSON)"),
          choices=dict(type=Path, help="what each choice changes (JSON)"), trends=dict(type=Path, help="trends (JSON)"),
          figures=_many("figures of the run (PNG)", required=False))  # fmt: skip
    stage("releases", _releases, "list the releases and what of them is on disk",
          check=dict(action="store_true", help="ask the archives what has changed, vanished or appeared; print rows to add"))  # fmt: skip
    add_tools(stages)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one stage; a `TullyflowError` ends as one line on stderr and exit code 2."""
    args = _parser().parse_args(argv)
    stream = sys.stderr if getattr(args, "log_to_stderr", False) else sys.stdout
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(message)s")
    logging.getLogger("tullyflow").setLevel(logging.INFO)
    try:
        args.function(args)
    except TullyflowError as err:
        print(f"tullyflow: {err}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
