rule build_report:
    message:
        "Writing the report"
    input:
        sample=f"{RESULTS}/sample.parquet",
        relations=RELATIONS,
        models=of_all("models/{shard}.fits"),
        maps=of_all("maps/{shard}.fits"),
        histories=[f"{network}/history.csv" for network in [*NETWORKS, *SYNTHETIC_NETWORKS]],
        closure=f"{RESULTS}/relation/closure.json" if SETTINGS.mock else [],
    output:
        page=report(f"{RESULTS}/report/index.html", caption="../workflow/report/report.rst", category="Report"),
        provenance=f"{RESULTS}/report/provenance.json",
        figures=report(directory(f"{RESULTS}/report/figures"), caption="../workflow/report/figures.rst", category="Figures", patterns=["{name}.png"]),
    log:
        f"{RESULTS}/logs/report/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_report/report.tsv"
    params:
        settings=SETTINGS.model_dump_json(),
        source=source_digest("report"),
        networks=[*NETWORKS, *SYNTHETIC_NETWORKS],
        benchmarks=f"{RESULTS}/benchmarks",
        closure=lambda wildcards, input: ["--closure", input.closure] if input.closure else [],
        folder=subpath(output.page, parent=True),
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow report --sample {input.sample:q} --relations {input.relations:q} --models {input.models:q} --maps {input.maps:q}"
        " --networks {params.networks:q} --benchmarks {params.benchmarks:q} {params.closure:q} --settings {params.settings:q}"
        " --out {params.folder:q} > {log:q} 2>&1"
