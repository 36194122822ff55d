rule build_maps:
    message:
        "Building the stamps of {wildcards.survey}-{wildcards.release}-{wildcards.part}"
    input:
        manifest=f"{RESULTS}/fetch/{SHARD}.csv",
        targets=f"{RESULTS}/targets/{{survey}}-{{release}}/{SHARD}.parquet",
    output:
        maps=f"{RESULTS}/maps/{SHARD}.fits",
    log:
        f"{RESULTS}/logs/maps/{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_maps/{SHARD}.tsv"
    params:
        settings=settings_for("maps", "{survey}"),
        source=source_digest("maps"),
        content=raw_content("fetch"),
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow maps --manifest {input.manifest:q} --targets {input.targets:q} --settings {params.settings:q}"
        " --threads {threads} --out {output.maps:q} > {log:q} 2>&1"
