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


rule fit_groups:
    message:
        "Fitting every relation per survey and per class"
    input:
        sample=f"{RESULTS}/sample.parquet",
    output:
        groups=f"{RESULTS}/relation/groups.json",
        ecsv=f"{RESULTS}/relation/groups.ecsv",
    log:
        f"{RESULTS}/logs/relation/groups.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_groups/groups.tsv"
    params:
        settings=select_sections(SETTINGS, *FITS, *ASKED, "relation.ssfr_split"),
        source=source_digest("relation"),
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow groups --sample {input.sample:q} --settings {params.settings:q} --out {output.groups:q} > {log:q} 2>&1"

rule vary_choices:
    message:
        "Fitting the relation again with each choice changed"
    input:
        sample=f"{RESULTS}/sample.parquet",
    output:
        choices=f"{RESULTS}/relation/choices.json",
        ecsv=f"{RESULTS}/relation/choices.ecsv",
    log:
        f"{RESULTS}/logs/relation/choices.log",
    benchmark:
        f"{RESULTS}/benchmarks/vary_choices/choices.tsv"
    params:
        settings=select_sections(SETTINGS, *FITS, *ASKED, *CUTS, *THRESHOLD, *(f"{survey}.train_release" for survey in SETTINGS.surveys)),
        source=source_digest("relation"),
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow choices --sample {input.sample:q} --settings {params.settings:q} --out {output.choices:q} > {log:q} 2>&1"

rule measure_trends:
    message:
        "Correlating velocities and residuals with what galaxies are made of"
    input:
        sample=f"{RESULTS}/sample.parquet",
        relations=RELATIONS,
    output:
        trends=f"{RESULTS}/relation/trends.json",
        ecsv=f"{RESULTS}/relation/trends.ecsv",
    log:
        f"{RESULTS}/logs/relation/trends.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_trends/trends.tsv"
    params:
        settings=select_sections(SETTINGS, *FITS, *ASKED),
        source=source_digest("relation"),
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow trends --sample {input.sample:q} --relations {input.relations:q} --settings {params.settings:q} --out {output.trends:q} > {log:q} 2>&1"

rule tabulate_fits:
    message:
        "Writing all fits as tables"
    input:
        relations=RELATIONS,
    output:
        ecsv=f"{RESULTS}/relation/fits.ecsv",
        tex=f"{RESULTS}/relation/fits.tex",
    log:
        f"{RESULTS}/logs/relation/fits.log",
    params:
        source=source_digest("relation"),
    resources:
        mem_mb=500,
        runtime=10,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow fit-tables --relations {input.relations:q} --out {output.ecsv:q} --tex {output.tex:q} > {log:q} 2>&1"

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
