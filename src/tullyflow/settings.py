"""Every setting of the workflow: one model per section, parsed once at the border.

A YAML value may carry a unit ("15 arcsec"); it is converted here and is a plain float after.
A stage receives the JSON of just the sections it uses, so that a change re-runs what depends on it.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tullyflow.errors import SettingsError

__all__ = ["Settings", "load_settings", "manual", "parse_settings", "select_sections"]


def _quantity(unit: str):
    """A float in ``unit``; a string with another unit of the same kind is converted by astropy."""

    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        from astropy import units as u

        try:
            quantity = u.Quantity(value)
            return float(quantity.value) if quantity.unit == u.dimensionless_unscaled else float(quantity.to_value(unit))
        except (TypeError, ValueError, u.UnitConversionError) as err:
            raise ValueError(f"{value!r} is not a value in {unit}; write for example '10 {unit}'") from err

    return BeforeValidator(convert)


Kms = Annotated[float, _quantity("km/s")]
Arcsec = Annotated[float, _quantity("arcsec")]
Deg = Annotated[float, _quantity("deg")]
Share = Annotated[float, Field(gt=0, le=1)]
SurveyName = Literal["manga", "sami", "things", "local"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, coerce_numbers_to_str=True)


class Cosmology(_Section):
    h: float = Field(0.7, gt=0, lt=2, description="Hubble constant / 100 km/s/Mpc")
    omega_m: float = Field(0.3, gt=0, le=1, description="matter density of a flat LambdaCDM universe")
    imf: Literal["chabrier", "own"] = Field("chabrier", description="masses, SFR and M/L on a Chabrier initial mass function, or on each catalogue's own (thesis)")


class Fetch(_Section):
    connections: int = Field(4, ge=1, le=16, description="files fetched at the same time, by each job")
    connections_per_host: int = Field(4, ge=1, le=16, description="of them from one host (archives ask for no more than 4)")
    timeout_s: float = Field(60.0, gt=0, description="seconds without a byte before a try is given up")
    total_timeout_s: float = Field(7200.0, gt=0, description="seconds after which one try is given up however it goes")
    rate_mb_s: float | None = Field(None, gt=0, description="bandwidth cap of a job, MB/s; null = none")
    ca_bundle: str | None = Field(None, description="file of certificates to trust besides the usual ones (proxies of an institute); proxies are taken from HTTPS_PROXY")
    disk_margin_gb: float = Field(1.0, ge=0, description="disk space to leave free, GB; a shard that needs more is not begun")
    sum_lists: bool = Field(False, description="check against the archive's sha1sum lists where it has them (one more request per folder)")
    fits_sums: bool = Field(True, description="refuse FITS files whose CHECKSUM or DATASUM do not match (false for an archive that edits headers without renewing them)")
    tries: int = Field(4, ge=1, description="tries per file and mirror")
    failures_allowed: float = Field(0.2, ge=0, le=1, description="share of a shard's files that may fail (404 is an answer, not a failure)")
    retry_failed: int = Field(0, ge=0, description="raise by one to try the failed files of finished shards again")


class Maps(_Section):
    snr_min: float = Field(10.0, ge=0, description="smallest signal-to-noise of the line in a spaxel")
    min_pixels: int = Field(100, ge=1, description="fewest valid spaxels of a galaxy")
    fill_factor_min: float = Field(0.10, ge=0, le=1, description="smallest valid share of the instrument's field of view")
    v_abs_min: Kms = Field(10.0, ge=0, description="smallest largest |velocity| of a galaxy, km/s")
    velocity_err_max: Kms = Field(50.0, gt=0, description="largest velocity error of a spaxel, km/s")
    velocity_err_default: Kms = Field(5.0, gt=0, description="error used where a survey gives none, km/s")
    outlier_kms: Kms = Field(60.0, gt=0, description="a spaxel further than this and 5 sigma from its neighbours' median is masked, km/s")
    field_r_scale_max: float | None = Field(0.6, gt=0, description="a stamp's field is what the data reach, widened (to 1.8 times that at most) until R_e/1.678 is this share of its half-width: inside network.ranges.r_scale; null = the data alone (paper)")
    centre: Literal["catalogue", "kinematic"] = Field("catalogue", description="centre of rotation: the catalogue's position, or where the map is closest to antisymmetric (the catalogue's where the map does not say)")
    pa_step: Deg = Field(1.0, gt=0, le=10, description="step of the position angle search, deg")
    pa_err_max: Deg = Field(45.0, gt=0, description="a position angle less certain than this is not used, deg")
    blank: list[float] = Field(default_factory=list, description="values that mean 'no data' besides NaN, e.g. [0, -999]")
    cube_snr_high: float = Field(5.0, gt=0, description="cubes: seeds of the mask, in noise of the smoothed cube (4 takes 20 noise peaks in 10^5 beams times channels for line, 5 none)")
    cube_snr_low: float = Field(3.0, gt=0, description="cubes: connected voxels around the seeds, likewise (2 takes noise beside the line for line)")
    cube_grow_beams: float = Field(0.5, ge=0, description="cubes: how far the regions are grown on the sky, in beams, for the line's faint edge")
    cube_min_beams: float = Field(2.0, ge=0, description="cubes: fewest voxels of a connected region, in beams (one in each of two channels)")
    cube_min_channels: int = Field(2, ge=1, description="cubes: fewest unmasked channels of a pixel with a velocity")


_RELEASES = "releases to use, as the table of releases names them; latest = the one added last"


class _SurveyBase(_Section):
    releases: list[str] = Field(min_length=1, description=_RELEASES)
    train_release: str | None = Field(None, description="the release whose galaxies train the network; null = the one this run's network is of, else the first of releases")
    galaxies: str | list[str] | None = Field(None, description="only these galaxies of this survey (as the top-level key, which it replaces)")
    shard_size: int = Field(200, ge=1, le=1000, description="galaxies per job")
    maps: dict[str, Any] = Field(default_factory=dict, description="overrides of the section maps for this survey")
    network: dict[str, Any] = Field(default_factory=dict, description="overrides of the section network for this survey")


class Manga(_SurveyBase):
    releases: list[str] = Field(["DR17"], min_length=1, description=_RELEASES)
    daptype: dict[str, str] = Field(
        default_factory=lambda: {"DR15": "HYB10-GAU-MILESHC", "DR16": "HYB10-GAU-MILESHC", "DR17": "HYB10-MILESHC-MASTARSSP"},
        description="DAP analysis per release",
    )
    line: str = Field("Ha-6564", description="emission line, by its header name")
    main_sample: bool = Field(True, description="only the main sample (MNGTARG1 bits 10-12)")
    reader: Literal["native", "marvin"] = Field("native", description="what reads the MAPS: this package, or Marvin in its own environment")
    product: Literal["dap", "pipe3d"] = Field("dap", description="maps of the data analysis pipeline, or of Pipe3D (thesis)")
    masses: Literal["nsa", "pipe3d"] = Field("nsa", description="stellar masses of the NASA-Sloan Atlas (in drpall), or of the Pipe3D catalogue")
    tables: list[Literal["dapall", "pipe3d", "hi"]] = Field(default_factory=list, description="further catalogues: dapall and pipe3d (star formation, ages, M/L), hi (HI-MaNGA line widths and gas masses)")
    extra: list[Literal["logcube", "modelcube"]] = Field(default_factory=list, description="further files to fetch beside the maps; nothing reads them")
    lsf_factor: float = Field(1.045, gt=0, description="instrumental dispersion of DR15/16 times this (Law+2021); never DR17")
    pipe3d_dispersion: Literal["auto", "sigma", "fwhm"] = Field("auto", description="what the dispersions of Pipe3D cubes are: a standard deviation, a FWHM, or judged by the instrument's in each file")
    pipe3d_instrument: Kms = Field(70.0, gt=0, description="instrumental dispersion in Pipe3D cubes at the line, km/s (Law+2021: about 70 at Halpha)")


class Sami(_SurveyBase):
    releases: list[str] = Field(["DR3"], min_length=1, description=_RELEASES)
    binning: Literal["default", "adaptive"] = Field("default", description="SAMI binning of the maps")
    components: Literal["1-comp", "recom-comp"] = Field("1-comp", description="emission line fit of the maps")
    maps: dict[str, Any] = Field(default_factory=lambda: {"min_pixels": 200}, description="overrides of the section maps for this survey")


class Things(_SurveyBase):
    product: Literal["cube", "moments"] = Field("cube", description="make moments of the cubes, or take the archive's moment maps")
    releases: list[str] = Field(["NA"], min_length=1, description=_RELEASES)
    maps: dict[str, Any] = Field(default_factory=lambda: {"snr_min": 3.0}, description="overrides of the section maps for this survey")


class Local(_SurveyBase):
    releases: list[str] = Field(["user"], min_length=1, description=_RELEASES)
    axis_ratio_err: float = Field(0.06, gt=0, description="error of the catalogue's axis ratios as a measure of the inclination: that of the measurement (some 0.03) and what arms, bars and discs that are not round add")


class Ranges(_Section):
    inclination_deg: tuple[float, float] = Field((5.0, 90.0), description="deg")
    r_scale: tuple[float, float] = Field((0.05, 0.8), description="fraction of the stamp's half-width")
    r_turn: tuple[float, float] = Field((0.01, 1.0), description="fraction of the stamp's half-width")
    v_max: tuple[float, float] = Field((0.12, 8.0), description="V_max sin i: km/s if velocity_norm is a number, else multiples of the map's norm")


class Stream(_Section):
    """What the discs of the synthetic stream suffer; each disc draws its own."""

    v_max_sini: tuple[Kms, Kms] = Field((15.0, 400.0), description="range of V_max sin i, where the norm is each map's own, km/s")
    beam: tuple[float, float] = Field((0.0, 18.0), description="range of the beam's FWHM, stamp pixels")
    no_beam: float = Field(0.1, ge=0, le=1, description="share of discs without a beam")
    snr: tuple[float, float] = Field((5.0, 500.0), description="range of the intensity's S/N at its peak")
    velocity_err: tuple[Kms, Kms] = Field((0.3, 20.0), description="range of the velocity's error at the peak of the intensity; it grows as the intensity falls, km/s")
    pa_err: Deg = Field(2.0, ge=0, description="scatter of the position angle a stamp was turned by, deg")
    centre_err: float = Field(0.5, ge=0, description="scatter of the centre along each axis, stamp pixels")
    v_sys_err: Kms = Field(2.0, ge=0, description="scatter of the systemic velocity, km/s")
    clumps: float = Field(0.35, ge=0, description="largest rms of ln intensity from clumps; half of the discs have some")
    central_light: float = Field(0.3, ge=0, le=1, description="share of discs with a bulge or a hole in their middle")
    other_curves: float = Field(0.3, ge=0, le=1, description="share of discs with a rotation curve that is not an arctan; their labels are those of the nearest arctan")
    faintest: tuple[Share, Share] | None = Field((1e-3, 0.2), description="range of the intensity, over its peak, below which pixels are lost; null = none is too faint")
    gaps: bool = Field(True, description="fields of view, holes and lost pixels")


_FEWEST_SIMULATED = 20  # particle sets


class Usability(_Section):
    labels: str | None = Field(None, description="CSV of classes by eye (galaxy, quality, quality_stellar: 0 do not use, 1 messy, 2 clean) to train on; null = the weights that ship (MaNGA, Duckworth+2019)")
    architecture: Literal["symmetric", "duckworth2019"] = Field("symmetric", description="network of usability: one that knows a field's symmetries, or the fully connected one of Duckworth+2019")


    @model_validator(mode="after")
    def _labelled(self):
        if self.labels is None and self.architecture != "symmetric":
            raise ValueError(f"architecture {self.architecture} wants labels to train on; without, the network that ships is symmetric")
        return self


class Circularity(_Section):
    galaxies: int = Field(0, ge=0, description="simulated galaxies of particles to train on, 20 or more; 0 = the weights that ship")
    views: int = Field(20, ge=1, description="velocity fields of each")
    architecture: Literal["direct", "dawson2020"] = Field("direct", description="network of circularity: kappa with its error, or the autoencoder and folded latent space of Dawson+2020")


    @model_validator(mode="after")
    def _simulated(self):
        if self.galaxies == 0 and self.architecture != "direct":
            raise ValueError(f"architecture {self.architecture} wants galaxies to train on; without, the network that ships is direct")
        if 0 < self.galaxies < _FEWEST_SIMULATED:
            raise ValueError(f"{self.galaxies} galaxies are too few to train on; {_FEWEST_SIMULATED} or more, or 0 for the weights that ship")
        return self


class Network(_Section):
    architecture: Literal["folded", "dawson2021"] = Field("folded", description="one encoder of both maps, folded by the disc's symmetries, with errors and validity; or the two of Dawson+2021 Table 1")
    ranges: Ranges = Field(default_factory=Ranges, description="ranges of the four parameters")
    stream: Stream = Field(default_factory=Stream, description="what synthetic discs suffer")
    log_scale: bool = Field(True, description="map lengths and velocity to their ranges in the logarithm (the paper: linearly)")
    velocity_norm: float | Literal["percentile"] = Field("percentile", description="mom1 is divided by this: a number (paper: 500 km/s) or each map's 95th percentile of |v|, handed on to V_max")
    initial_weights: Literal["none", "synthetic"] = Field("synthetic", description="start from random weights, or from a network trained on synthetic discs")
    adapt: bool = Field(True, description="train on the survey's own galaxies; false: infer with the initial weights (blind)")
    synthetic_steps: int = Field(12_000, ge=1, description="training steps on synthetic discs")
    synthetic_batch: int = Field(32, ge=1, description="discs per synthetic step")
    synthetic_learning_rate: float = Field(2e-3, gt=0, description="peak of the one-cycle learning rate on synthetic discs")
    epochs: int = Field(300, ge=0, description="passes through the survey's galaxies")
    batch_size: int = Field(16, ge=1, description="galaxies per training step")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's first learning rate")
    decay: float = Field(0.975, gt=0, le=1, description="learning rate factor")
    decay_every: int = Field(2, ge=1, description="epochs between decays")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after the first linear layer")
    samples: int = Field(100, ge=2, description="Monte-Carlo dropout passes")
    refine: bool = Field(True, description="refine each galaxy by robust least squares on its maps, from the network's answer; its errors are then those of the fit")
    calibration_fits: int = Field(1000, ge=0, description="simulated galaxies, deliberately not the model, on which the fit's errors are calibrated, and the network's on twice as many; 0 leaves those of the fit as they are")
    inclination_prior: Literal["none", "photometry"] = Field("none", description="join the fit's inclination with that of the axis ratio (where the intensity is a map; where it is photometry, that inclination is held)")
    calibrate_on: Literal["mismatch", "model"] = Field("mismatch", description="what the network's own errors are calibrated on: simulated galaxies that are deliberately not the model (bars, warps, arms), or discs of its training stream")
    compare_curves: bool = Field(True, description="ask each galaxy whether another rotation curve than the arctan is strongly preferred, and measure what is no rotation")
    loss: Literal["mse", "chi2"] = Field("mse", description="masked mean squared error, or with the maps' errors")
    mean_over: Literal["valid", "all"] = Field("valid", description="divide the loss by the valid pixels, or by all 4096 (paper)")
    intensity_scale: Literal["fit", "peak"] = Field("fit", description="brightness of the model: fitted to each map, or 1 at its peak (paper)")
    rehearsal: float = Field(1.0, ge=0, description="weight of a labelled synthetic batch beside each survey batch, where training starts from synthetic weights")
    beam: bool = Field(True, description="convolve the model with each galaxy's beam (the paper: no beam)")
    beam_input: bool = Field(True, description="tell the encoders the beam's size beside the maps (the paper: no)")
    quadrature_nodes: int = Field(4, ge=2, le=16, description="Gauss-Legendre nodes per panel of a line of sight")
    central_cells: int = Field(1, ge=1, le=9, description="samples along the side of the pixels within two of either axis, before a beam smears them")
    velocity_error_floor: Kms = Field(5.0, ge=0, description="added in quadrature to velocity errors (model mismatch), km/s")
    mismatch_fraction: float = Field(0.05, ge=0, description="likewise, in V_max sin i: without it the chi-squared of a reconstruction selects against fast rotators")
    compile: bool = Field(False, description="compile the training step (on the cpu what follows the encoders); up to two minutes and a C++ compiler: pays after some thousand steps")
    usability: Usability = Field(default_factory=Usability, description="would an eye use this velocity field?")
    circularity: Circularity = Field(default_factory=Circularity, description="how much of the motion is ordered rotation?")
    early_stop: int = Field(0, ge=0, description="stop after so many epochs without a better loss, and keep the best weights; 0 = never")


class Relation(_Section):
    relations: list[Literal["reverse", "forward", "r_band", "baryonic"]] = Field(["reverse", "forward", "r_band"], description="relations to fit; baryonic wants log_mgas")
    surveys: list[SurveyName] | None = Field(None, description="surveys whose galaxies make the relation; the others are shown and carry a flag; null = all")
    velocities: list[Literal["v_max", "v_22", "v_re", "v_80", "v_rmax"]] = Field(["v_22", "v_max"], description="velocities to use; the first is the one the report leads with")
    methods: list[Literal["lts", "mnr", "ols", "bisector"]] = Field(["mnr", "lts"], description="fits to make")
    ssfr_split: float = Field(-11.0, description="log10 specific star formation rate (1/yr) between the classes of star-forming and quiescent galaxies, which are also fitted apart")
    pivot_log_mstar: float | None = Field(10.09, description="pivot of log M* (thesis); null = the sample's median")
    pivot_log_v: float | None = Field(2.256, description="pivot of log V (thesis); null = the sample's median")
    clip: float = Field(2.6, gt=0, description="LTS clipping, in standard deviations")
    log_mstar_err: float = Field(0.1, ge=0, description="error of masses that come without one, dex")
    abs_mag_err: float = Field(0.05, ge=0, description="error of the absolute magnitudes, mag")
    log_mstar_min: float = Field(7.5, description="smallest log10 M*")
    inclination_min: Deg = Field(30.0, ge=0, le=90, description="smallest inclination, deg")
    inclination_max: Deg = Field(90.0, ge=0, le=90, description="largest inclination, deg")
    sersic_n_max: float | None = Field(None, gt=0, description="largest Sersic index; null = any. Where the inclination is photometric, a bulge makes it wrong")
    delta_pa_max: Deg | None = Field(30.0, gt=0, le=180, description="largest angle between the axes of gas and stars, where both are known, deg; null = any")
    delta_pa_unknown: Literal["keep", "leave_out"] = Field("keep", description="galaxies whose stars were mapped but have no kinematic axis")
    delta_pa_phot_max: Deg | None = Field(30.0, gt=0, le=90, description="largest angle between the photometric and the kinematic axis where the inclination is photometric, deg; null = any")
    usable_prob_min: Share | None = Field(0.5, description="smallest probability that an eye would use the velocity field; null = any")
    kappa_min: Share | None = Field(None, description="smallest circularity of the motion, where the field is like simulated ones; null = any: what it takes out the reconstruction takes out as well")
    reconstruction: Literal["chi2", "mse_over_v", "off"] = Field("chi2", description="what the reconstruction cut is made on (thesis: mse_over_v)")
    reconstruction_from: Literal["median", "mean", "zero"] = Field("median", description="the threshold is so many robust sigma above the median, or standard deviations above the mean or zero (thesis: mean)")
    reconstruction_sigma: float = Field(3.0, gt=0, description="sigmas of the reconstruction cut (thesis: 1)")
    log_v_err_max: float = Field(0.2, gt=0, description="largest error of log V, dex")
    drift: Literal["evans", "isotropic", "off"] = Field("evans", description="asymmetric drift: evans (thesis eq. 4.4: a flat curve whose epicycles make the radial dispersion larger), isotropic (gas of one dispersion: about half of it), or off")
    internal_extinction: Literal["off", "tully1998"] = Field("off", description="correct M_r for dust inside the galaxy by its axis ratio and velocity (Tully+1998)")
    drift_at: Literal["v_max", "r_max"] = Field("v_max", description="correct V_max (thesis), or the velocity at r_max only")


class Report(_Section):
    gallery: bool = Field(True, description="show every galaxy with data, model and residual: 1.7 kB each")
    pages: Literal["none", "used", "all"] = Field("used", description="galaxies that get a page of their own with the report: about 40 kB and 0.02 s each; `tullyflow page` makes the others'")
    figures: list[str] | None = Field(None, description="figures to draw, by name (reverse, turnover, reverse-v_22-lts ...); null = those of the thesis, four more, and one per further fit")
    title: str = Field("The Tully-Fisher relation", description="title of the report")
    published_counts: dict[SurveyName, dict[Literal["before", "used"], int]] = Field(default_factory=dict, description="galaxies of a published sample before and after the cuts that need the network, shown beside those found: {sami: {before: 1075, used: 697}}")


class Mock(_Section):
    manga_dr15: int = Field(40, ge=0, description="mock MaNGA DR15 galaxies, hard cases included")
    manga_dr17: int = Field(60, ge=0, description="mock MaNGA DR17 galaxies")
    sami: int = Field(60, ge=0, description="mock SAMI galaxies")
    things: int = Field(8, ge=0, description="mock THINGS cubes")
    slope: float = Field(0.26, description="reverse slope put in: log V on log M*, V the asymptotic rotation velocity (not circular: the demo switches the drift correction off)")
    intercept: float = Field(2.26, description="log V (km/s) at pivot 10.09 put in")
    scatter: float = Field(0.05, ge=0, description="intrinsic scatter of log V put in, dex")
    gas_dispersion: Kms = Field(20.0, ge=0, description="mean velocity dispersion of the gas, km/s")
    samples: int = Field(200_000, ge=1000, description="KinMS cloudlets per galaxy")


_CHECKOUT = Path(__file__).resolve().parents[2]  # where this package runs from its sources


class Settings(_Section):
    """The whole configuration. A stage is handed only the sections it uses; the rest keeps its default."""

    run: str = Field("demo", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="name of the run: results/{run}")
    surveys: list[SurveyName] = Field(["manga"], min_length=1, description="surveys to use")
    resources: str = Field("resources", description="folder of downloads")
    releases: str = Field("config/releases.csv", description="table of releases and addresses")
    catalogue: str | None = Field(None, description="CSV of your own galaxies (survey local)")
    mirror: str | None = Field(None, description="folder or address laid out like the archives, used instead of them")
    limit: int | None = Field(None, ge=1, description="only the first N galaxies of each release")
    galaxies: str | list[str] | None = Field(None, description="only these galaxies: names, or a file with one per line")
    overrides: str | None = Field(None, description="CSV (galaxy, column, value) that replaces catalogue values")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="where the network runs")
    seed: int = Field(42, ge=0, description="seed of everything random")
    cosmology: Cosmology = Field(default_factory=Cosmology, description="one cosmology for all")
    fetch: Fetch = Field(default_factory=Fetch, description="transfers")
    maps: Maps = Field(default_factory=Maps, description="masks, position angles, stamps")
    network: Network = Field(default_factory=Network, description="training and inference")
    relation: Relation = Field(default_factory=Relation, description="cuts, corrections, fits")
    report: Report = Field(default_factory=Report, description="the report")
    manga: Manga = Field(default_factory=Manga, description="MaNGA")
    sami: Sami = Field(default_factory=Sami, description="SAMI")
    things: Things = Field(default_factory=Things, description="THINGS")
    local: Local = Field(default_factory=Local, description="your own maps or cubes")
    mock: Mock | None = Field(None, description="make a mock archive and use it as the mirror")

    def in_place(self) -> "Settings":
        """Return the settings with the folders of a mock run: it keeps everything, downloads too, in its own folder."""
        if self.mock is None:
            return self
        results = f"results/{self.run}"
        return self.model_copy(update={"mirror": f"{results}/mock", "resources": f"{results}/resources"})

    def in_checkout(self, checkout: Path = _CHECKOUT) -> "Settings":
        """Return the settings with tables below ``config/`` taken from the checkout where the working folder has none."""
        tables = {key: Path(value) for key in ("releases", "catalogue", "overrides") if (value := getattr(self, key))}
        shipped = {key: checkout / path for key, path in tables.items() if path.parts[:1] == ("config",) and not path.is_file()}
        return self.model_copy(update={key: str(path) for key, path in shipped.items() if path.is_file()})

    def for_survey(self, survey: str) -> "Settings":
        """Return the settings with this survey's overrides of ``maps``, ``network`` and ``galaxies`` laid over them."""
        section = getattr(self, survey)
        data = self.model_dump(mode="json")
        for stage in ("maps", "network"):
            data[stage] = _deep_merge(data[stage], getattr(section, stage))
        if section.galaxies is not None:
            data["galaxies"] = section.galaxies
        return parse_settings(data, source=f"{survey} overrides")


def _deep_merge(base: Mapping, over: Mapping) -> dict:
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _deep_merge(merged[key], value) if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) else value
    return merged


def _known_keys(location: tuple) -> list[str]:
    model: Any = Settings
    for part in location:
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return []
        annotation = model.model_fields[part].annotation
        options = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        model = options[0] if options else annotation
    return list(getattr(model, "model_fields", {}))


def _sentence(error: Mapping, source: str) -> str:
    where = tuple(part for part in error["loc"])
    dotted = ".".join(map(str, where))
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(where[-1]), _known_keys(where[:-1]), n=1)
        hint = f" Did you mean '{close[0]}'?" if close else f" Known keys: {', '.join(_known_keys(where[:-1]))}."
        return f"{source}: {dotted}: unknown key.{hint}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{source}: {dotted}: {message[0].lower() + message[1:]} (found {error['input']!r}); see config/README.md."


def parse_settings(data: Mapping, source: str = "settings") -> Settings:
    """Validate a mapping; raise `SettingsError` with one line that names the key, what was found and what is allowed."""
    if not isinstance(data, Mapping):
        raise SettingsError(f"{source}: expected 'key: value' lines, found {type(data).__name__}.")
    try:
        return Settings.model_validate(dict(data))
    except ValidationError as err:
        raise SettingsError(_sentence(err.errors()[0], source)) from err


def load_settings(source: str | Path) -> Settings:
    """Read settings from a JSON text (as the rules pass it) or from a YAML or JSON file."""
    text = str(source)
    if text.lstrip().startswith("{"):
        try:
            return parse_settings(json.loads(text))
        except json.JSONDecodeError as err:
            raise SettingsError(f"settings: not JSON: {err}.") from err
    import yaml

    path = Path(source)
    if not path.is_file():
        raise SettingsError(f"{path}: no such settings file.")
    try:
        return parse_settings(yaml.safe_load(path.read_text()) or {}, source=str(path))
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(err).split())}.") from err


_NOT_FOR_SHARDS = {"releases", "train_release", "galaxies", "shard_size", "maps", "network"}


def select_sections(settings: Settings, *names: str, release: str | None = None) -> str:
    """Return the canonical JSON of the named keys ("maps", "relation.clip"): what a rule passes on and is re-run by.

    A survey's section is reduced to what a reader needs, and to what concerns ``release`` if that is given: adding a release must
    not re-run old shards.
    """
    data = settings.model_dump(mode="json")
    chosen: dict[str, Any] = {}
    for name in names:
        section, _, key = name.partition(".")
        if key:
            chosen.setdefault(section, {})[key] = data[section][key]
        elif section in ("manga", "sami", "things", "local"):
            chosen[section] = {k: v for k, v in data[section].items() if k not in _NOT_FOR_SHARDS}
            if release is not None and "daptype" in chosen[section]:
                chosen[section]["daptype"] = {k: v for k, v in data[section]["daptype"].items() if k == release}
        else:
            chosen[section] = data[section]
    return json.dumps(chosen, sort_keys=True)


def _rows(model: type[BaseModel], above: str = "") -> list[str]:
    """Return a table row for every key of a section; those of a section within it follow as ``section.key``."""
    rows = []
    for key, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            rows += [f"| `{above}{key}` | section | {field.description} |", *_rows(type(value), f"{key}.")]
        else:
            rows.append(f"| `{above}{key}` | `{json.dumps(value)}` | {field.description} |")
    return rows


def manual() -> str:
    """Return the Markdown tables of every key, type, default and description (the page config/README.md)."""
    top, sections = ["| key | default | what it is |", "| --- | --- | --- |"], []
    for name, info in Settings.model_fields.items():
        options = (info.annotation, *getattr(info.annotation, "__args__", ()))
        model = next((a for a in options if isinstance(a, type) and issubclass(a, BaseModel)), None)
        default = info.get_default(call_default_factory=True)
        shown = "section" if isinstance(default, BaseModel) else f"`{json.dumps(default)}`"
        top.append(f"| `{name}` | {shown} | {info.description} |")
        if model is not None:
            sections += [f"\n### {name}: {info.description}\n", "| key | default | what it is |", "| --- | --- | --- |", *_rows(model)]
    return "\n".join([*top, *sections])
