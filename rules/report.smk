rule plot_figure:
    message:
        "Drawing the figure {wildcards.figure}"
    input:
        sample=f"{RESULTS}/sample.parquet",
        relations=of_figure("relations"),
        trends=of_figure("trends"),
        choices=of_figure("choices"),
        labels=of_figure("labels"),
    output:
        png=report(
            f"{RESULTS}/figures/{{figure}}.png", caption="../workflow/report/figure.rst", category="Figures",
            labels=lambda wildcards: {"thesis": of_figure("number")(wildcards), "figure": of_figure("title")(wildcards)},
        ),
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
        csv=f"{RESULTS}/figures/{{figure}}.csv",
    log:
        f"{RESULTS}/logs/report/figure-{{figure}}.log",
    params:
        settings=of_figure("settings"),
        source=source_digest("figures"),
        caption=of_figure("caption"),
        stem=subpath(output.png, strip_suffix=".png"),
        records=lambda wildcards, input: [word for key in ("trends", "choices") for word in (f"--{key}", *input[key]) if input[key]],
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow figure {wildcards.figure} --sample {input.sample:q} --relations {input.relations:q} {params.records:q}"
        " --settings {params.settings:q} --out {params.stem:q} > {log:q} 2>&1"


rule build_report:
    message:
        "Writing the report"
    input:
        sample=f"{RESULTS}/sample.parquet",
        relations=RELATIONS,
        figures=FIGURES,
        groups=f"{RESULTS}/relation/groups.json",
        choices=f"{RESULTS}/relation/choices.json",
        trends=f"{RESULTS}/relation/trends.json",
        models=of_all("models/{shard}.fits"),
        maps=of_all("maps/{shard}.fits"),
        histories=[f"{network}/history.csv" for network in [*NETWORKS, *SYNTHETIC_NETWORKS]],
        closure=f"{RESULTS}/relation/closure.json" if SETTINGS.mock else [],
    output:
        page=report(f"{RESULTS}/report/index.html", caption="../workflow/report/report.rst", category="Report"),
        provenance=f"{RESULTS}/report/provenance.json",
        gallery=directory(f"{RESULTS}/report/gallery"),
        galaxies=directory(f"{RESULTS}/report/galaxies"),
        figures=report(directory(f"{RESULTS}/report/figures"), caption="../workflow/report/figures.rst", category="Checks", patterns=["{name}.png"]),
    log:
        f"{RESULTS}/logs/report/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_report/report.tsv"
    params:
        settings=SETTINGS.model_dump_json(),
        source=source_digest("report"),
        networks=[*NETWORKS, *SYNTHETIC_NETWORKS, *JUDGES],
        benchmarks=f"{RESULTS}/benchmarks",
        closure=lambda wildcards, input: ["--closure", input.closure] if input.closure else [],
        folder=subpath(output.page, parent=True),
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow report --sample {input.sample:q} --relations {input.relations:q} --figures {input.figures:q}"
        " --groups {input.groups:q} --choices {input.choices:q} --trends {input.trends:q} --models {input.models:q} --maps {input.maps:q}"
        " --networks {params.networks:q} --benchmarks {params.benchmarks:q} {params.closure:q} --settings {params.settings:q}"
        " --out {params.folder:q} > {log:q} 2>&1"
