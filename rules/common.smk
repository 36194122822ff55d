"""What all rules share: the validated settings, the paths, and the functions that look things up."""

import hashlib
import json
import os
import sys
from pathlib import Path

from tullyflow.errors import TullyflowError
from tullyflow.fetch.preflight import check_access, choose_training, resolve_releases
from tullyflow.provenance import source_digest
from tullyflow.report.figures.listing import figure_names, figure_relations, find_figure
from tullyflow.settings import parse_settings, select_sections
from tullyflow.surveys import SURVEYS, local


def marvin_python(settings, files="--config"):
    """Python of Marvin's environment: conda's where Snakemake sets environments up, else that of `make marvin`; None where Marvin reads nothing."""
    if "manga" not in settings.surveys or settings.manga.reader != "marvin":
        return None
    if settings.manga.product != "dap":
        raise TullyflowError(f"{files}: manga.reader: Marvin reads the pipeline's MAPS only: set manga.product: dap, or manga.reader: native")
    if "conda" in map(str, workflow.deployment_settings.deployment_method):
        return "python"
    python = Path(os.environ.get("TULLYFLOW_MARVIN") or Path(workflow.basedir).parent / ".venv-marvin/bin/python")
    if not python.is_file():
        raise TullyflowError(f"{files}: manga.reader: Marvin's environment is not there ({python}): run `make marvin`, or name a Python that has sdss-marvin in TULLYFLOW_MARVIN")
    return os.path.relpath(python)


def validated(config):
    """Settings of this run; a mistake ends Snakemake with one sentence instead of a traceback."""
    try:
        files = ", ".join(map(str, workflow.configfiles)) or "--config"
        settings = parse_settings(config, source=files)
        settings = resolve_releases(settings.in_place().in_checkout(Path(workflow.basedir).parent), source=files)
        settings, said = choose_training(settings, f"results/{settings.run}")
        if workflow.is_main_process:
            for sentence in said:
                print(f"tullyflow: {sentence}", file=sys.stderr)
        if "local" in settings.surveys and settings.catalogue is None:
            raise TullyflowError(f"{files}: catalogue: the survey 'local' needs a table of your galaxies: --config catalogue=FILE.csv")
        for key in ("catalogue", "overrides"):
            if getattr(settings, key) and not Path(getattr(settings, key)).is_file():
                raise TullyflowError(f"{files}: {key}: no such file: {getattr(settings, key)}")
        if "local" in settings.surveys:
            local.targets({"catalogue": Path(settings.catalogue)}, "user", settings)  # its mistakes are said before anything runs
        if settings.mirror and "://" not in settings.mirror and settings.mock is None and not Path(settings.mirror).is_dir():
            raise TullyflowError(f"{files}: mirror: no such folder: {settings.mirror}")
        by_survey = {survey: settings.for_survey(survey) for survey in settings.surveys}
        for labels in {own.network.usability.labels for own in by_survey.values()} - {None}:
            if not Path(labels).is_file():
                raise TullyflowError(f"{files}: network.usability.labels: no such file: {labels}")
        marvin_python(settings, files)
        figure_names(settings)
        if workflow.is_main_process and settings.mock is None:
            check_access(settings)
        return settings, by_survey
    except TullyflowError as err:
        print(f"tullyflow: {err}", file=sys.stderr)
        sys.exit(2)


SETTINGS, BY_SURVEY = validated(config)
RESULTS = f"results/{SETTINGS.run}"
MOCK = [f"{RESULTS}/mock/mock.json"] if SETTINGS.mock else []
SYNTHETIC = f"{SETTINGS.resources}/network/synthetic"  # beside the downloads: every run with the same settings shares it
SHARD = "{survey}-{release}-{part}"
RELATIONS = [
    f"{RESULTS}/relation/{relation}-{velocity}-{method}.json"
    for relation in SETTINGS.relation.relations
    for velocity in SETTINGS.relation.velocities
    for method in SETTINGS.relation.methods
]
RECORDS = ["groups", "choices", "trends"]
COMPARISONS = [f"{RESULTS}/relation/{name}.json" for name in RECORDS]
FIT_TABLES = [f"{RESULTS}/relation/fits.ecsv", f"{RESULTS}/relation/fits.tex"]
FIGURES = [f"{RESULTS}/figures/{name}.png" for name in figure_names(SETTINGS)]
CUTS = [f"relation.{key}" for key in type(SETTINGS.relation).model_fields if key.endswith(("_min", "_max")) or key.startswith(("drift", "surveys", "internal", "delta"))]
THRESHOLD = ["relation.reconstruction", "relation.reconstruction_from", "relation.reconstruction_sigma"]
FITS = ["relation.clip", "relation.pivot_log_mstar", "relation.pivot_log_v", "relation.log_mstar_err", "relation.abs_mag_err", "relation.drift", "relation.internal_extinction", "cosmology", "seed"]
ASKED = ["relation.relations", "relation.velocities", "relation.methods"]


wildcard_constraints:
    survey="|".join(SURVEYS),
    release="[A-Za-z0-9]+",
    part=r"\d\d\d+",
    initial="[0-9a-f]{12}",
    simulated="[0-9a-f]{12}",
    architecture="[a-z0-9]+",
    relation="[a-z]+(_[a-z]+)?",
    velocity="v_[a-z0-9]+",
    method="[a-z]+",
    figure="|".join(figure_names(SETTINGS, every=True)),


def settings_for(*names):
    """Params function: the JSON of the named sections, as this survey sees them."""
    return lambda wildcards: select_sections(
        BY_SURVEY[wildcards.survey], *(n.format(survey=wildcards.survey) for n in names), release=wildcards.release
    )


def release_rows(wildcards):
    """Params function: the rows of the release table a shard depends on, so that a new row re-runs nothing old."""
    path = Path(SETTINGS.releases)
    rows = path.read_text().splitlines() if path.is_file() else []
    return [row for row in rows if row.startswith(f"{wildcards.survey},{wildcards.release},")]


def files_beside(wildcards):
    """Files a target list depends on besides the catalogues: the chosen galaxies and the overrides."""
    galaxies = BY_SURVEY[wildcards.survey].galaxies
    names = [galaxies if isinstance(galaxies, str) else None, SETTINGS.overrides]
    return [name for name in names if name and Path(name).is_file()]


def raw_content(kind):
    """Params function: digest of the raw files a manifest lists, so that replaced content re-runs its shard and a touch does not."""

    def digest(wildcards):
        from tullyflow.fetch.manifest import content_digest

        name = SHARD if kind == "fetch" else "{survey}-{release}"
        path = Path(f"{RESULTS}/{kind}/{name}.csv".format(**wildcards))
        return content_digest(path) if path.is_file() else ""  # looked up again when the manifest exists

    return digest


def manifest_of(wildcards):
    """Input function: manifest of a shard's files; where Marvin reads them, the one with what it made of them."""
    stage = "marvin" if wildcards.survey == "manga" and SETTINGS.manga.reader == "marvin" else "fetch"
    return f"{RESULTS}/{stage}/{SHARD}.csv".format(**wildcards)


NAMED = any(settings.galaxies is not None for settings in BY_SURVEY.values())
TARGETS = [f"{RESULTS}/targets/{survey}-{release}" for survey in SETTINGS.surveys for release in getattr(SETTINGS, survey).releases]


def shards(survey, release):
    """Names of a release's shards, known once its target list exists (and, where galaxies are named, once all are found)."""
    if NAMED:
        checkpoints.check_galaxies.get()
    folder = checkpoints.list_targets.get(survey=survey, release=release).output.folder
    return sorted(path.stem for path in Path(folder).glob(f"{survey}-{release}-*.parquet"))


def figure_settings(entry):
    """Settings of a figure as JSON: those of the fits, and what it looks at beside them, as each survey sees it."""
    chosen = json.loads(select_sections(SETTINGS, *FITS, *ASKED, *entry.settings))
    if "network.usability" in entry.settings:
        for survey, settings in BY_SURVEY.items():
            chosen.setdefault(survey, {})["network"] = {"usability": settings.network.usability.model_dump(mode="json")}
    return json.dumps(chosen, sort_keys=True)


def of_figure(key):
    """Input or params function: what a figure draws ("relations", "trends", "choices", "labels"), the "settings" it looks at, or what is said of it ("caption", "title", "number")."""

    def look_up(wildcards):
        entry = find_figure(wildcards.figure, SETTINGS)
        if key == "relations":
            return [f"{RESULTS}/relation/{name}.json" for name in figure_relations(entry, SETTINGS)]
        if key in ("trends", "choices"):
            return [f"{RESULTS}/relation/{key}.json"] if key in entry.records else []
        if key == "labels":
            named = {settings.network.usability.labels for settings in BY_SURVEY.values()} if "network.usability" in entry.settings else ()
            return sorted(path for path in named if path)
        if key == "settings":
            return figure_settings(entry)
        return getattr(entry, key)

    return look_up


def of_training(pattern):
    """Input function: one file per shard of the release the network is trained on."""

    def files(wildcards):
        return [f"{RESULTS}/{pattern.format(shard=shard)}" for shard in shards(wildcards.survey, wildcards.release)]

    return files


def of_all(pattern):
    """Input function: one file per shard of every survey and release."""

    def files(wildcards):
        return [
            f"{RESULTS}/{pattern.format(shard=shard)}"
            for survey in SETTINGS.surveys
            for release in getattr(SETTINGS, survey).releases
            for shard in shards(survey, release)
        ]

    return files


def network_of(wildcards):
    """Folder of the network that serves this survey, whatever the release."""
    return f"{RESULTS}/network/{wildcards.survey}-{getattr(SETTINGS, wildcards.survey).train_release}"


NETWORKS = [f"{RESULTS}/network/{s}-{getattr(SETTINGS, s).train_release}" for s in SETTINGS.surveys]


# What no training of a disc network depends on, and what the synthetic one does not: surveys that share the rest share one network.
_INFERENCE = {"samples", "refine", "inclination_prior", "compare_curves", "mismatch_fraction", "usability", "circularity"}
_ADAPTATION = _INFERENCE | {"initial_weights", "adapt", "epochs", "batch_size", "learning_rate", "decay", "decay_every", "rehearsal", "early_stop", "velocity_error_floor"}

INFERENCE = [f"network.{key}" for key in type(SETTINGS.network).model_fields if key not in ("usability", "circularity")]
TRAINING = [f"network.{key}" for key in type(SETTINGS.network).model_fields if key not in _INFERENCE]


def initial_settings(survey):
    """JSON of what the synthetic network of a survey depends on."""
    keys = [f"network.{key}" for key in type(SETTINGS.network).model_fields if key not in _ADAPTATION]
    return select_sections(BY_SURVEY[survey], *keys, "seed", "device")


def initial_name(survey):
    """Name of that network: a digest of its settings."""
    return hashlib.sha256(initial_settings(survey).encode()).hexdigest()[:12]


def initial_weights(wildcards):
    """Input function: the synthetic network a survey starts from, if it starts from one."""
    if BY_SURVEY[wildcards.survey].network.initial_weights == "none":
        return []
    return f"{SYNTHETIC}-{initial_name(wildcards.survey)}/weights.safetensors"


INITIAL = {initial_name(survey): survey for survey in SETTINGS.surveys}
SYNTHETIC_NETWORKS = [f"{SYNTHETIC}-{name}" for name, survey in INITIAL.items() if BY_SURVEY[survey].network.initial_weights != "none"]


def usability_weights(wildcards):
    """Input function: the network of usability a survey trains on its own labels; none where those that ship are used."""
    if BY_SURVEY[wildcards.survey].network.usability.labels is None:
        return []
    return f"{network_of(wildcards)}/usability/weights.safetensors"


def circularity_weights(wildcards):
    """Input function: the network of circularity trained on simulated galaxies; none where the one that ships is used."""
    circularity = BY_SURVEY[wildcards.survey].network.circularity
    if circularity.galaxies == 0:
        return []
    return f"{SIMULATED}-{simulated_name(wildcards.survey)}/{circularity.architecture}/weights.safetensors"


SIMULATED = f"{SETTINGS.resources}/network/circularity"  # beside the downloads, as the synthetic networks


def simulated_settings(survey):
    """JSON of what simulated velocity fields depend on."""
    circularity = BY_SURVEY[survey].network.circularity.model_dump(include={"galaxies", "views"})
    return json.dumps({"network": {"circularity": circularity}, "seed": SETTINGS.seed}, sort_keys=True)


def simulated_name(survey):
    """Name of those fields: a digest of their settings."""
    return hashlib.sha256(simulated_settings(survey).encode()).hexdigest()[:12]


JUDGES = sorted({
    f"{SIMULATED}-{simulated_name(survey)}/{chosen.architecture}" for survey in SETTINGS.surveys if (chosen := BY_SURVEY[survey].network.circularity).galaxies
})  # folders of the run's own networks of circularity; those of usability are beside a survey's network
def simulated_memory(survey):
    """Memory, MB, to make those fields or train on them: some 50 kB each."""
    circularity = BY_SURVEY[survey].network.circularity
    return 2000 + circularity.galaxies * circularity.views // 20


SIMULATED_OF = {simulated_name(survey): survey for survey in SETTINGS.surveys}
