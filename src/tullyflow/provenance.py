"""What made a file: versions, and a digest of a stage's source that ignores comments and docstrings."""

import ast
import hashlib
import importlib.metadata
import io
import platform
import tokenize
from functools import cache
from pathlib import Path

import tullyflow

__all__ = ["source_digest", "versions"]

_PACKAGE = Path(tullyflow.__file__).parent
_SCOPE = {  # what a stage's results depend on; fetch is left out on purpose: how a file travelled does not change it
    "mock": ("surveys/mock*.py",),
    "targets": ("surveys/*.py", "surveys/*.csv", "conventions.py"),
    "marvin": ("surveys/marvin_reader.py",),
    "maps": ("surveys/*.py", "maps/*.py", "conventions.py"),
    "network": ("disc/*.py", "network/*.py", "conventions.py"),
    "judges": ("network/judges/*.py", "maps/fields.py", "conventions.py"),
    "infer": ("disc/*.py", "network/*.py", "network/judges/*.py", "network/judges/weights/*.json", "conventions.py"),
    "relation": ("relation/*.py", "conventions.py"),
    "figures": ("report/figures/*.py", "report/words.py", "report/judgement.py", "conventions.py"),
    "report": ("report/*.py", "report/figures/*.py", "report/*.html", "report/*.css", "report/*.js"),
}
_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_MARKS = {tokenize.INDENT: "{", tokenize.DEDENT: "}", tokenize.NEWLINE: ";"}


def _docstring_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                lines.update(range(first.lineno, first.end_lineno + 1))
    return lines


def _code(source: str) -> str:
    """The source without comments, docstrings and layout: equal text means equal code, on every Python."""
    skip = _docstring_lines(ast.parse(source))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "".join(_MARKS.get(t.type, t.string) for t in tokens if t.type not in _LAYOUT and t.start[0] not in skip)


@cache
def source_digest(stage: str) -> str:
    """Return 12 hex digits over the code of a stage's modules (its scope is ``_SCOPE``)."""
    digest = hashlib.sha256()
    for pattern in _SCOPE[stage]:
        for path in sorted(_PACKAGE.glob(pattern)):
            if stage in ("maps", "targets") and path.name.startswith(("mock", "marvin")):
                continue
            text = path.read_text(encoding="utf-8")
            digest.update(path.relative_to(_PACKAGE).as_posix().encode())
            digest.update((_code(text) if path.suffix == ".py" else text).encode())
    return digest.hexdigest()[:12]


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that touch the numbers."""
    found = {"python": platform.python_version(), "tullyflow": tullyflow.__version__}
    for name in ("numpy", "scipy", "astropy", "pandas", "torch", "kinms", "emcee", "snakemake"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
