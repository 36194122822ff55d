"""Numbers and names as a reader sees them: true minus signs, errors, durations, powers and subscripts; and the pages they stand on."""

import re
from collections.abc import Mapping
from functools import cache

import numpy as np
from markupsafe import Markup, escape

__all__ = ["duration", "number", "plus_minus", "render", "typeset"]

_SUBSCRIPTS = {"max": "max", "22": "2.2", "re": "Re", "rmax": "r max", "opt": "opt", "80": "80"}


def number(value, digits: int = 3, sign: bool = False) -> str:
    """Return a number with a true minus sign; a dash where it is missing or not finite."""
    if not isinstance(value, int | float | np.number) or not np.isfinite(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def plus_minus(value, error, digits: int = 3) -> str:
    """Return "value ± error"; without a finite error the value alone."""
    shown = number(error, digits)
    return number(value, digits) if shown == "–" else f"{number(value, digits)} ± {shown}"


def duration(seconds: float) -> str:
    """Return seconds as a person says them; a dash for NaN."""
    if not np.isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def typeset(value) -> Markup:
    """Escape, then set powers of ten and the names of velocities as a printer would: 10^9 and V_max become marks."""
    text = str(escape(value))
    text = re.sub(r"\b10\^([-−]?\d+(?:\.\d+)?)", lambda m: f"10<sup>{m[1].replace('-', '−')}</sup>", text).replace("M☉", "M<sub>☉</sub>")
    return Markup(re.sub(r"\b[Vv]_(max|22|re|rmax|opt|80)\b", lambda m: f"V<sub>{_SUBSCRIPTS[m[1]]}</sub>", text))


@cache
def _environment():
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("tullyflow.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, auto_reload=False)
    environment.filters |= {"words": typeset, "duration": duration}
    return environment


def render(template: str, context: Mapping) -> str:
    """Return a page of this package's templates, everything in it escaped; a name the context lacks is an error."""
    return _environment().get_template(template).render(context)
