"""Every figure of a run that is a file of its own: its name, what it takes, and its caption. Read by the rules, so nothing heavy here.

`tullyflow.report.figures.draw.draw_figure` draws them; results/{run}/figures/{name}.png, .pdf and .csv are what it writes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tullyflow.errors import SettingsError

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = [
    "FIGURES", "METHOD_WORDS", "RELATION_WORDS", "VELOCITY_WORDS", "Entry", "figure_names", "figure_relations", "find_figure",
    "relation_figures",
]  # fmt: skip

RELATION_WORDS = {
    "reverse": "Reverse relation", "forward": "Forward relation", "r_band": "r-band relation", "baryonic": "Baryonic relation",
}  # fmt: skip
METHOD_WORDS = {
    "lts": "least trimmed squares", "mnr": "marginalised normal regression", "ols": "ordinary least squares", "bisector": "bisector",
}  # fmt: skip
VELOCITY_WORDS = {
    "v_max": "asymptotic velocity",
    "v_22": "velocity at 2.2 scale lengths",
    "v_re": "velocity at the half-light radius",
    "v_80": "velocity at the radius of 80 % of the light",
    "v_rmax": "velocity at the outermost data",
}


@dataclass(frozen=True)
class Entry:
    """A figure: ``name`` of its files, ``number`` in the thesis (or ""), ``title``, and a ``caption`` that says what a good one looks like.

    ``relations`` are the fits it draws: names of relations (with the first velocity and method of the settings), a single
    ``relation-velocity-method``, or "all". ``records`` are the further files of results/{run}/relation it reads, ``settings`` the further
    settings it looks at, beside those of the fits.
    """

    name: str
    number: str
    title: str
    caption: str
    relations: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


_TRENDS = ("trends",)
_TOGETHER = (
    "r_turn and V_max are fitted together, and V_22 / V_max is a function of r_turn over the scale length alone: with V_max a trend here "
    "is partly algebra. The turnover radius goes with the scatter where the residual of a velocity at a radius (V_22) has the trend too; "
    "the table of trends has both."
)
FIGURES = (
    Entry(
        "properties", "4.1", "The galaxies of the relation",
        "What the galaxies in the relation are, survey by survey; the grey outline is all targets. Where the filled part follows the "
        "outline, the cuts chose no kind of galaxy.",
    ),
    Entry(
        "reverse", "4.2", "Reverse relation and literature",
        "Left, the galaxies and the fit, with one and three times the observed rms; right, published lines with their 1σ and, "
        "below, what they differ by from this one. A good relation has its residuals level about zero; velocities and masses "
        "differ from paper to paper.",
        ("reverse",),
    ),
    Entry(
        "forward", "4.3", "Forward relation and literature",
        "Mass from velocity: the fit to use where only the velocity is known. A selection in mass bends this fit more than the reverse "
        "one. Published lines marked 'inverted' are reverse fits turned round: another regression, steeper by its scatter; compare those "
        "in the reverse relation.",
        ("forward",),
    ),
    Entry(
        "r_band", "4.4", "r-band relation",
        "Absolute r magnitude against velocity, the form that gives distances. Bright is up.",
        ("r_band",),
    ),
    Entry(
        "age", "4.5", "Age against velocity",
        "Mean stellar age against rotation velocity; large markers are running medians with their errors. Ages of two surveys come from "
        "two methods: compare each with itself only.",
        (), _TRENDS,
    ),
    Entry(
        "mass_to_light", "4.6", "Mass-to-light ratio against velocity",
        "Stellar mass-to-light ratio in r against rotation velocity; large markers are running medians with their errors. Faster galaxies "
        "are expected to have older stars and a larger ratio.",
        (), _TRENDS,
    ),
    Entry(
        "turnover", "4.7", "Turnover radius against mass and velocity",
        "Turnover radius over half-light radius. Massive galaxies are expected to turn over further in; r_turn and V_max are fitted "
        "together, so with V_max part of the right-hand trend is algebra; with a velocity at a radius hardly any. Open: a turnover within "
        "half the beam, a limit rather than a value.",
        (), _TRENDS,
    ),
    Entry(
        "magnitude_residual", "4.8", "Magnitude residual against turnover radius",
        "How much fainter (up) or brighter (down) a galaxy is than the r-band relation says. " + _TOGETHER,
        ("r_band",), _TRENDS,
    ),
    Entry(
        "mass_residual", "4.9", "Mass residual against turnover radius",
        "How much heavier (up) or lighter a galaxy is than the forward relation says. " + _TOGETHER,
        ("forward",), _TRENDS,
    ),
    Entry(
        "extent", "4.10", "Turnover radius and extent of the data",
        "The velocity field's extent against the turnover radius, both over the half-light radius. Below the line the curve has not turned "
        "over within the data and V_max is an extrapolation.",
        (), _TRENDS,
    ),
    Entry(
        "colours", "", "What goes with the place along the relation",
        "The reverse relation coloured by age, mass-to-light ratio and star formation; lines are running medians of the lowest and the "
        "highest third. Where the two lines part, the property goes with the residual, not only with the mass.",
        ("reverse",), _TRENDS,
    ),
    Entry(
        "threshold", "", "Slope against the reconstruction threshold",
        "The reverse relation refitted with looser and stricter cuts on how well the velocity field is reproduced. A statistic that "
        "selects on velocity moves the slope as it tightens; a good one leaves it level.",
        (), ("choices",),
    ),
    Entry(
        "literature", "", "This work less the literature",
        "Slope and intercept of every fit less each published line's, with combined 1σ. Filled: the same velocity, treatment of the drift, "
        "direction of the regression, and IMF and h of the masses, as far as the paper says; open: unlike in one of them, for orientation "
        "only. The CSV names what is unlike.",
        ("all",),
    ),
    Entry(
        "cut_flow", "", "What each cut takes",
        "Galaxies every cut takes in its turn (dark) and would take by itself (light). A cut whose light bar is long and dark bar short "
        "hardly matters after those above it.",
    ),
    Entry(
        "judgement", "", "Is it a disc? Four answers",
        "Circularity against usability, coloured by how the disc model's misfit compares with the run's limit; lines are the cuts, dashed "
        "where the run makes none. Below, galaxies that exactly these tests would take out, and how far two tests agree. Tests that agree "
        "find the same discs; galaxies that one alone takes out are worth a look. Where the network was trained on these classes by eye, "
        "its agreement with the eye is flattered: the figures that are not are in its card.",
        (), (), ("network.usability", "relation.usable_prob_min", "relation.kappa_min"),
    ),
    Entry(
        "misalignment", "", "Misalignment of gas and stars",
        "Angle between the kinematic axes of gas and stars in bins of 10°, as shares of each class, of galaxies whose gas and stars an eye "
        "would both use (probability at least a half); grey, all with both axes. A good sample peaks at 0°, with a lesser peak at 180° "
        "(counter-rotation); a flat tail is of axes that are not known. Beyond the line at 30° galaxies count as misaligned; "
        "errors are binomial. Duckworth+2020 find 28 ± 3 % of early types, 10 ± 1 % of lenticulars and 5.4 ± 0.6 % of late types.",
        (), (), ("relation.ssfr_split",),
    ),
)  # fmt: skip
_FIXED = {entry.name: entry for entry in FIGURES}


def _combinations(settings: "Settings") -> Iterator[tuple[str, str, str]]:
    chosen = settings.relation
    return ((r, v, m) for r in chosen.relations for v in chosen.velocities for m in chosen.methods)


def relation_figures(settings: "Settings") -> tuple[Entry, ...]:
    """Return one figure per relation, velocity and method of the settings, named ``relation-velocity-method``."""
    return tuple(
        Entry(
            name := f"{relation}-{velocity}-{method}", "", f"{RELATION_WORDS[relation]}: {VELOCITY_WORDS[velocity]}",
            f"{RELATION_WORDS[relation]}, {VELOCITY_WORDS[velocity]}, {METHOD_WORDS.get(method, method)}. A good relation has its points "
            "spread evenly about the line in the lower panel; the band is the intrinsic scatter.",
            (name,),
        )
        for relation, velocity, method in _combinations(settings)
    )  # fmt: skip


def figure_names(settings: "Settings", every: bool = False) -> list[str]:
    """Return the names of a run's figures, the thesis' first.

    A relation's first velocity and method are those of its figure in the thesis, and not drawn again unless ``every`` is true: then
    it is all that can be asked for, whatever ``report.figures`` chooses. Raises `SettingsError` where that names one there is not.
    """
    if settings.report.figures is not None and not every:
        return [find_figure(name, settings).name for name in settings.report.figures]
    chosen = settings.relation
    shown = {f"{name}-{chosen.velocities[0]}-{chosen.methods[0]}" for name in _FIXED}
    others = (entry.name for entry in relation_figures(settings))
    return [*_FIXED, *(name for name in others if every or name not in shown)]


def find_figure(name: str, settings: "Settings") -> Entry:
    """Return a figure by its name; raise `SettingsError` where there is none."""
    found = _FIXED | {entry.name: entry for entry in relation_figures(settings)}
    if name not in found:
        raise SettingsError(f"figure: no figure {name!r}; there are: {', '.join(found)}.")
    return found[name]


def figure_relations(entry: Entry, settings: "Settings") -> list[str]:
    """Return the fits (``relation-velocity-method``) a figure draws; a relation the settings do not fit is left out."""
    chosen = settings.relation
    if entry.relations == ("all",):
        return ["-".join(names) for names in _combinations(settings)]
    first = f"{chosen.velocities[0]}-{chosen.methods[0]}"
    return [name if "-" in name else f"{name}-{first}" for name in entry.relations if "-" in name or name in chosen.relations]
