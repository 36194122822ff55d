rule make_mock:
    message:
        "Making a mock archive of simulated galaxies"
    output:
        marker=f"{RESULTS}/mock/mock.json",
        truth=f"{RESULTS}/mock/truth.parquet",
    log:
        f"{RESULTS}/logs/mock/make_mock.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_mock/mock.tsv"
    params:
        settings=select_sections(SETTINGS, "mock", "seed", "cosmology", "releases", "manga", "sami"),
        source=source_digest("mock"),
        folder=subpath(output.marker, parent=True),
    threads: 2
    priority: 100
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow mock --settings {params.settings:q} --threads {threads} --out {params.folder:q} > {log:q} 2>&1"
