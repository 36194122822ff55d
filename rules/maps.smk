rule read_with_marvin:
    message:
        "Reading the maps of {wildcards.survey}-{wildcards.release}-{wildcards.part} with Marvin"
    input:
        manifest=f"{RESULTS}/fetch/{SHARD}.csv",
    output:
        manifest=f"{RESULTS}/marvin/{SHARD}.csv",
        maps=directory(f"{RESULTS}/marvin/{SHARD}"),
    log:
        f"{RESULTS}/logs/maps/marvin-{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/read_with_marvin/{SHARD}.tsv"
    params:
        python=marvin_python(SETTINGS),
        reader=os.path.relpath(Path(local.__file__).with_name("marvin_reader.py")),
        line=SETTINGS.manga.line,
        source=source_digest("marvin"),
        content=raw_content("fetch"),
    wildcard_constraints:
        survey="manga",
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../envs/marvin.yaml"
    shell:
        "{params.python:q} -sP {params.reader:q} --manifest {input.manifest:q} --line {params.line:q} --folder {output.maps:q}"
        " --out {output.manifest:q} > {log:q} 2>&1"


rule build_maps:
    message:
        "Building the stamps of {wildcards.survey}-{wildcards.release}-{wildcards.part}"
    input:
        manifest=manifest_of,
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
