rule pretrain_network:
    message:
        "Training a network on synthetic discs"
    output:
        weights=f"{SYNTHETIC}-{{initial}}/weights.safetensors",
        model=f"{SYNTHETIC}-{{initial}}/model.json",
        history=f"{SYNTHETIC}-{{initial}}/history.csv",
    log:
        f"{RESULTS}/logs/network/synthetic-{{initial}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain_network/{{initial}}.tsv"
    params:
        settings=lambda wildcards: initial_settings(INITIAL[wildcards.initial]),
        source=source_digest("network"),
        folder=subpath(output.weights, parent=True),
    threads: 2
    resources:
        mem_mb=3000,
        runtime=240,
        gpu=1,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow pretrain --settings {params.settings:q} --out {params.folder:q} > {log:q} 2>&1"


# What a training depends on besides its galaxies, as a file of its own: their maps are ancient(), so that one remade shard does not
# train a survey again, and Snakemake 9.27 does not look for other reasons to run a job whose ancient input is being remade. It also
# forgets, when a checkpoint ends, what was made before: so the target lists come first (their priority), and this waits for all cores.
rule freeze_training:
    localrule: True
    message:
        "Freezing what the network of {wildcards.survey} {wildcards.release} is trained with"
    input:
        initial=initial_weights,
    output:
        settings=f"{RESULTS}/network/{{survey}}-{{release}}/training.json",
    log:
        f"{RESULTS}/logs/network/training-{{survey}}-{{release}}.log",
    params:
        settings=settings_for(*TRAINING, "maps.velocity_err_default", "seed", "device"),
        maps=settings_for("maps"),
        source=source_digest("network"),
    threads: 1000
    priority: -1
    resources:
        mem_mb=500,
        runtime=5,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "printf '%s' {params.settings:q} > {output.settings:q} 2> {log:q}"


rule train_network:
    message:
        "Training the network of {wildcards.survey} on {wildcards.release}"
    input:
        settings=f"{RESULTS}/network/{{survey}}-{{release}}/training.json",
        maps=ancient(of_training("maps/{shard}.fits")),
        initial=initial_weights,
    output:
        weights=f"{RESULTS}/network/{{survey}}-{{release}}/weights.safetensors",
        model=f"{RESULTS}/network/{{survey}}-{{release}}/model.json",
        history=f"{RESULTS}/network/{{survey}}-{{release}}/history.csv",
    log:
        f"{RESULTS}/logs/network/{{survey}}-{{release}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_network/{{survey}}-{{release}}.tsv"
    params:
        initial=lambda wildcards, input: ["--initial", str(Path(input.initial).parent)] if input.initial else [],
        folder=subpath(output.weights, parent=True),
    threads: 2
    resources:
        mem_mb=4000,
        runtime=480,
        gpu=1,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow train --maps {input.maps:q} {params.initial:q} --settings {input.settings:q} --out {params.folder:q} > {log:q} 2>&1"


rule train_usability:
    message:
        "Training a network on the classes of {wildcards.survey} {wildcards.release} by eye"
    input:
        labels=lambda wildcards: BY_SURVEY[wildcards.survey].network.usability.labels,
        maps=ancient(of_training("maps/{shard}.fits")),
    output:
        weights=f"{RESULTS}/network/{{survey}}-{{release}}/usability/weights.safetensors",
        model=f"{RESULTS}/network/{{survey}}-{{release}}/usability/model.json",
    log:
        f"{RESULTS}/logs/network/usability-{{survey}}-{{release}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_usability/{{survey}}-{{release}}.tsv"
    params:
        settings=settings_for("network.usability", "seed"),
        source=source_digest("judges"),
        folder=subpath(output.weights, parent=True),
    threads: 2
    resources:
        mem_mb=4000,
        runtime=120,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow train-usability --maps {input.maps:q} --labels {input.labels:q} --settings {params.settings:q} --out {params.folder:q}"
        " > {log:q} 2>&1"


rule simulate_fields:
    message:
        "Simulating velocity fields of galaxies whose circularity is known"
    output:
        fields=f"{SIMULATED}-{{simulated}}/fields.fits",
    log:
        f"{RESULTS}/logs/network/simulate-{{simulated}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/simulate_fields/{{simulated}}.tsv"
    params:
        settings=lambda wildcards: simulated_settings(SIMULATED_OF[wildcards.simulated]),
        source=source_digest("judges"),
    threads: 2
    resources:
        mem_mb=lambda wildcards: simulated_memory(SIMULATED_OF[wildcards.simulated]),
        runtime=480,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow simulate-fields --settings {params.settings:q} --threads {threads} --out {output.fields:q} > {log:q} 2>&1"


rule train_circularity:
    message:
        "Training a network on simulated velocity fields"
    input:
        fields=f"{SIMULATED}-{{simulated}}/fields.fits",
    output:
        weights=f"{SIMULATED}-{{simulated}}/{{architecture}}/weights.safetensors",
        model=f"{SIMULATED}-{{simulated}}/{{architecture}}/model.json",
    log:
        f"{RESULTS}/logs/network/circularity-{{simulated}}-{{architecture}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_circularity/{{simulated}}-{{architecture}}.tsv"
    params:
        settings=lambda wildcards: json.dumps({"network": {"circularity": {"architecture": wildcards.architecture}}, "seed": SETTINGS.seed}),
        source=source_digest("judges"),
        folder=subpath(output.weights, parent=True),
    threads: 2
    resources:
        mem_mb=lambda wildcards: simulated_memory(SIMULATED_OF[wildcards.simulated]),
        runtime=240,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow train-circularity --fields {input.fields:q} --settings {params.settings:q} --out {params.folder:q} > {log:q} 2>&1"


rule infer_kinematics:
    message:
        "Inferring the discs of {wildcards.survey}-{wildcards.release}-{wildcards.part}"
    input:
        maps=f"{RESULTS}/maps/{SHARD}.fits",
        targets=f"{RESULTS}/targets/{{survey}}-{{release}}/{SHARD}.parquet",
        weights=lambda wildcards: f"{network_of(wildcards)}/weights.safetensors",
        model=lambda wildcards: f"{network_of(wildcards)}/model.json",
        usability=usability_weights,
        circularity=circularity_weights,
    output:
        kinematics=f"{RESULTS}/kinematics/{SHARD}.parquet",
        models=f"{RESULTS}/models/{SHARD}.fits",
    log:
        f"{RESULTS}/logs/network/infer-{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/infer_kinematics/{SHARD}.tsv"
    params:
        settings=settings_for(*INFERENCE, "maps.velocity_err_default", "seed", "device"),
        source=source_digest("infer"),
        weights=network_of,
        judges=lambda wildcards, input: [
            part for name in ("usability", "circularity") if input[name] for part in (f"--{name}", str(Path(input[name]).parent))
        ],
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../envs/tullyflow.yaml"
    shell:
        "tullyflow infer --maps {input.maps:q} --targets {input.targets:q} --weights {params.weights:q} {params.judges:q}"
        " --settings {params.settings:q} --out {output.kinematics:q} --models {output.models:q} > {log:q} 2>&1"
