# The blind test of Dawson+2021 section 3.1, from the drawing of the galaxies to the figures: seeds and numbers are in blind_test/*.yaml.
#
#     snakemake -s benchmarks/blind_test.smk --cores 2        writes results/blind_test, benchmarks/blind_test.{csv,json} and *.png
from pathlib import Path

import yaml

HERE = Path(workflow.basedir)
NETWORKS = ["folded", "dawson2021"]
TRAINED = [*NETWORKS, "folded_beams"]
OUT = Path("results/blind_test")
FIGURES = ["truth", "errors", "beam", "velocity"]
POPULATION = yaml.safe_load((HERE / "blind_test/population.yaml").read_text())
SHARDS = [f"{k:02d}" for k in range(POPULATION["shards"])]


wildcard_constraints:
    shard="[0-9]+|control",
    network="|".join(TRAINED),


def settings_of(wildcards):
    return HERE / f"blind_test/{wildcards.network}.yaml"


def trained_on_beams(wildcards):
    """The network that is told the beam is trained on all of them; the paper's knows of none."""
    return "folded_beams" if wildcards.network == "folded" else wildcards.network


rule all:
    input:
        HERE / "blind_test.csv",
        expand(str(HERE / "blind_test_{figure}.png"), figure=FIGURES),


rule draw_galaxies:
    output:
        OUT / "galaxies/{shard}.npz",
    log:
        OUT / "logs/draw_{shard}.log",
    params:
        population=POPULATION,
    shell:
        "OMP_NUM_THREADS=1 python {HERE}/blind_galaxies.py --shard {wildcards.shard} --out {output} > {log} 2>&1"


rule train_network:
    input:
        settings_of,
    output:
        directory(OUT / "weights/{network}"),
    log:
        OUT / "logs/train_{network}.log",
    priority: 50
    shell:
        "OMP_NUM_THREADS=1 python {HERE}/blind_test.py train {input} {output} > {log} 2>&1"


rule infer_galaxies:
    input:
        settings=settings_of,
        weights=OUT / "weights/{network}",
        galaxies=expand(str(OUT / "galaxies/{shard}.npz"), shard=SHARDS),
    output:
        OUT / "found/{network}.csv",
    shell:
        "OMP_NUM_THREADS=1 python {HERE}/blind_test.py infer {input.settings} {input.weights} {output} {input.galaxies}"


rule infer_control:
    input:
        settings=settings_of,
        weights=OUT / "weights/{network}",
        galaxies=OUT / "galaxies/control.npz",
    output:
        OUT / "found/control/{network}.csv",
    shell:
        "OMP_NUM_THREADS=1 python {HERE}/blind_test.py infer {input.settings} {input.weights} {output} {input.galaxies}"


rule infer_beams:
    input:
        settings=lambda wildcards: HERE / f"blind_test/{trained_on_beams(wildcards)}.yaml",
        weights=lambda wildcards: OUT / "weights" / trained_on_beams(wildcards),
        galaxies=expand(str(OUT / "galaxies/{shard}.npz"), shard=SHARDS[:2]),
    output:
        OUT / "found/beams/{network}.csv",
    shell:
        "OMP_NUM_THREADS=1 python {HERE}/blind_test.py infer --beams {input.settings} {input.weights} {output} {input.galaxies}"


rule score:
    input:
        expand(str(OUT / "found/{part}{network}.csv"), part=["", "control/"], network=NETWORKS),
    output:
        HERE / "blind_test.csv",
    shell:
        "python {HERE}/blind_test.py score {OUT}/found {output}"


rule plot:
    input:
        expand(str(OUT / "found/{part}{network}.csv"), part=["", "beams/"], network=NETWORKS),
    output:
        expand(str(HERE / "blind_test_{figure}.png"), figure=FIGURES),
    shell:
        "python {HERE}/blind_figures.py {OUT}/found {HERE}"
