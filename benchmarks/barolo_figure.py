"""The rotation curves of `barolo.py`, as a picture."""

from pathlib import Path

import numpy as np
from cubes_reference import NGC_2903_CURVE

__all__ = ["draw"]

_PANELS, _COLUMNS = 12, 4


def draw(path: Path, done: list) -> None:
    """Real cubes first, then mocks, twelve panels; ``done`` are ``barolo.Compared``."""
    from matplotlib.figure import Figure

    shown = [c for c in done if c.truth is None] + [c for c in done if c.truth is not None]
    shown = shown[:_PANELS]
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 3.1 * rows), layout="constrained")
    for axes, c in zip(figure.subplots(rows, _COLUMNS, squeeze=False).flat, shown, strict=False):
        ours = c.ours
        axes.fill_between(ours.radius, ours.v_rot - ours.v_rot_err, ours.v_rot + ours.v_rot_err, color="C0", alpha=0.25, lw=0)
        axes.plot(ours.radius, ours.v_rot, color="C0", label=f"ours: i {ours.inclination:.0f}")
        for rings, name, marker in ((c.own, "3D-Barolo, own estimates", "o"), (c.given, "3D-Barolo, given", "s")):
            if rings is not None and not rings.failed:
                label = f"{name}: i {np.median(rings.inclination):.0f}"
                axes.plot(rings.radius, rings.v_rot, marker, ms=4, mfc="none", color="C1" if marker == "o" else "C2", label=label)
        if c.truth is not None:
            axes.plot(ours.radius, c.truth.rotation(ours.radius), "k--", lw=1, label=f"true: i {c.truth.inclination:.0f}")
        elif c.name == "NGC_2903":
            axes.plot(*NGC_2903_CURVE, "k--", lw=1, label="SPARC: i 66")
        axes.axvline(2 * c.beam, color="0.7", lw=0.8, ls=":")
        axes.set(xlim=(0, None), ylim=(0, None), xlabel="R / arcsec", ylabel="V / km/s", title=c.name.replace("_", " "))
        axes.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=75)
