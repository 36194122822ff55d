FETCH_KEYS = ["fetch", "mirror", "resources", "releases", "{survey}"]


rule fetch_catalogue:
    message:
        "Fetching the catalogues of {wildcards.survey} {wildcards.release}"
    input:
        mock=MOCK,
    output:
        manifest=f"{RESULTS}/catalogue/{{survey}}-{{release}}.csv",
    log:
        f"{RESULTS}/logs/fetch/catalogue-{{survey}}-{{release}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch_catalogue/{{survey}}-{{release}}.tsv"
    params:
        settings=settings_for(*FETCH_KEYS, "catalogue", "mock"),
        rows=release_rows,
    priority: 100
    resources:
        mem_mb=1000,
        runtime=60,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow fetch --survey {wildcards.survey} --release {wildcards.release} --settings {params.settings:q}"
        " --out {output.manifest:q} > {log:q} 2>&1"


checkpoint list_targets:
    message:
        "Listing the galaxies of {wildcards.survey} {wildcards.release}"
    input:
        manifest=f"{RESULTS}/catalogue/{{survey}}-{{release}}.csv",
        files=files_beside,
    output:
        folder=directory(f"{RESULTS}/targets/{{survey}}-{{release}}"),
    log:
        f"{RESULTS}/logs/fetch/targets-{{survey}}-{{release}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/list_targets/{{survey}}-{{release}}.tsv"
    params:
        settings=settings_for("cosmology", "catalogue", "limit", "galaxies", "overrides", "{survey}"),
        shard_size=lambda wildcards: getattr(SETTINGS, wildcards.survey).shard_size,
        source=source_digest("targets"),
        content=raw_content("catalogue"),
    priority: 100
    resources:
        mem_mb=2000,
        runtime=10,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow targets --survey {wildcards.survey} --release {wildcards.release} --manifest {input.manifest:q}"
        " --settings {params.settings:q} --shard-size {params.shard_size} --out {output.folder:q} > {log:q} 2>&1"


# A checkpoint, because no shard may be known (and fetched) before every name was found; an input of the shards it is not,
# because a release that is added would make it new and all old shards with it.
checkpoint check_galaxies:
    localrule: True
    message:
        "Looking for the galaxies asked for by name"
    input:
        folders=TARGETS,
    output:
        names=f"{RESULTS}/targets/named.txt",
    log:
        f"{RESULTS}/logs/fetch/named.log",
    params:
        settings=select_sections(
            SETTINGS, "surveys", "galaxies", "releases", *(f"{survey}.{key}" for survey in SETTINGS.surveys for key in ("releases", "galaxies"))
        ),
        folder=subpath(output.names, parent=True),
    priority: 100
    resources:
        mem_mb=500,
        runtime=5,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow names --targets {params.folder:q} --settings {params.settings:q} --out {output.names:q} > {log:q} 2>&1"


rule fetch_shard:
    message:
        "Fetching shard {wildcards.survey}-{wildcards.release}-{wildcards.part}"
    input:
        targets=f"{RESULTS}/targets/{{survey}}-{{release}}/{SHARD}.parquet",
        mock=MOCK,
    output:
        manifest=f"{RESULTS}/fetch/{SHARD}.csv",
    log:
        f"{RESULTS}/logs/fetch/{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch_shard/{SHARD}.tsv"
    params:
        settings=settings_for(*FETCH_KEYS),
        rows=release_rows,
    resources:
        mem_mb=1000,
        runtime=240,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow fetch --targets {input.targets:q} --settings {params.settings:q} --out {output.manifest:q} > {log:q} 2>&1"
