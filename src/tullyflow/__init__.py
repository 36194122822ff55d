"""From survey maps to the Tully-Fisher relation: one package, one Snakemake workflow."""

__version__ = "0.1.0"
