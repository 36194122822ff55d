rule freeze_threshold:
    message:
        "Freezing the reconstruction threshold of {wildcards.survey} {wildcards.release}"
    input:
        kinematics=of_training("kinematics/{shard}.parquet"),
        model=f"{RESULTS}/network/{{survey}}-{{release}}/model.json",
    output:
        threshold=f"{RESULTS}/network/{{survey}}-{{release}}/threshold.json",
    log:
        f"{RESULTS}/logs/relation/threshold-{{survey}}-{{release}}.log",
    params:
        settings=select_sections(SETTINGS, *THRESHOLD),
        source=source_digest("relation"),
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow threshold --kinematics {input.kinematics:q} --settings {params.settings:q} --out {output.threshold:q} > {log:q} 2>&1"


rule select_sample:
    message:
        "Selecting the sample of {wildcards.survey}-{wildcards.release}-{wildcards.part}"
    input:
        targets=f"{RESULTS}/targets/{{survey}}-{{release}}/{SHARD}.parquet",
        maps=f"{RESULTS}/maps/{SHARD}.fits",
        kinematics=f"{RESULTS}/kinematics/{SHARD}.parquet",
        threshold=lambda wildcards: f"{network_of(wildcards)}/threshold.json",
    output:
        sample=f"{RESULTS}/sample/{SHARD}.parquet",
    log:
        f"{RESULTS}/logs/relation/select-{SHARD}.log",
    params:
        settings=select_sections(SETTINGS, *CUTS, *THRESHOLD),
        source=source_digest("relation"),
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow select --targets {input.targets:q} --maps {input.maps:q} --kinematics {input.kinematics:q}"
        " --threshold {input.threshold:q} --settings {params.settings:q} --out {output.sample:q} > {log:q} 2>&1"


rule merge_samples:
    message:
        "Merging the samples of all shards"
    input:
        samples=of_all("sample/{shard}.parquet"),
    output:
        sample=f"{RESULTS}/sample.parquet",
        ecsv=f"{RESULTS}/sample.ecsv",
        fits=f"{RESULTS}/sample.fits",
    log:
        f"{RESULTS}/logs/relation/merge.log",
    params:
        source=source_digest("relation"),
    resources:
        mem_mb=2000,
        runtime=20,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow merge --samples {input.samples:q} --out {output.sample:q} > {log:q} 2>&1"


rule fit_relation:
    message:
        "Fitting the {wildcards.relation} relation with {wildcards.velocity} by {wildcards.method}"
    input:
        sample=f"{RESULTS}/sample.parquet",
    output:
        fit=f"{RESULTS}/relation/{{relation}}-{{velocity}}-{{method}}.json",
    log:
        f"{RESULTS}/logs/relation/{{relation}}-{{velocity}}-{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_relation/{{relation}}-{{velocity}}-{{method}}.tsv"
    params:
        settings=select_sections(SETTINGS, *FITS),
        source=source_digest("relation"),
    resources:
        mem_mb=1000,
        runtime=20,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow relation --sample {input.sample:q} --relation {wildcards.relation} --velocity {wildcards.velocity}"
        " --method {wildcards.method} --settings {params.settings:q} --out {output.fit:q} > {log:q} 2>&1"


rule check_closure:
    message:
        "Comparing the mock run with its truth"
    input:
        sample=f"{RESULTS}/sample.parquet",
        truth=f"{RESULTS}/mock/truth.parquet",
        relations=RELATIONS,
    output:
        closure=f"{RESULTS}/relation/closure.json",
    log:
        f"{RESULTS}/logs/relation/closure.log",
    params:
        settings=select_sections(SETTINGS, *FITS, "mock"),
        source=source_digest("relation"),
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow closure --sample {input.sample:q} --truth {input.truth:q} --relations {input.relations:q}"
        " --settings {params.settings:q} --out {output.closure:q} > {log:q} 2>&1"
