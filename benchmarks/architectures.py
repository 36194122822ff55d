"""Does the folded encoder earn its place? Both architectures on the same stream of labelled discs, the same steps, the same seed.

    python benchmarks/architectures.py [--steps 1000]

Two streams: the default one (noise, gaps, beams, clumps, bulges, other curves, misplaced axes: what real stamps have) and that of the blind
test (no noise, no gaps, one beam). Mean and 68th percentile of |found - true| of 1,000 discs of the same stream that neither has seen;
lengths and V also relative, per cent. ``processor_s`` is the training's, one thread. Kept in architectures.json.
"""

import argparse
import time
from pathlib import Path

import torch
from record import keep

from tullyflow.network.allocator import keep_freed_memory
from tullyflow.network.fitting import fit_synthetic
from tullyflow.network.synthetic import draw_discs
from tullyflow.network.training import new_model
from tullyflow.settings import Settings, load_settings

SEED, UNSEEN, CHUNK = 2026, 1000, 100
STREAMS = {"default": None, "blind test": Path(__file__).parent / "blind_test" / "folded.yaml"}


def measure(settings: Settings, steps: int) -> dict:
    network, cpu = settings.network, torch.device("cpu")
    torch.manual_seed(SEED)
    model, generator = new_model(settings, cpu), torch.Generator().manual_seed(SEED)
    began = time.process_time()
    fit_synthetic(model, steps, network.synthetic_batch, network.synthetic_learning_rate, generator)
    took = time.process_time() - began
    model.eval()
    off, relative, unseen = [], [], torch.Generator().manual_seed(SEED + 1)
    with torch.no_grad():
        for _ in range(UNSEEN // CHUNK):
            discs = draw_discs(CHUNK, model, unseen)
            truth = discs.parameters.stack()
            off.append((model.parameters_of(model.encode(discs.stamps), discs.stamps.norm).stack() - truth).abs())
            relative.append(100 * off[-1][:, 1:] / truth[:, 1:])
    mean, percent = torch.cat(off).mean(0), torch.cat(relative).quantile(0.6827, dim=0)
    names = ("inclination_deg", "r_scale", "r_turn", "v_max_sini_kms")
    return {
        "mean |d|": {name: float(f"{v:.4g}") for name, v in zip(names, mean.tolist(), strict=True)},
        "68 % within, %": {name: round(v, 2) for name, v in zip(names[1:], percent.tolist(), strict=True)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "processor_s": round(took),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    keep_freed_memory()
    figures: dict = {"steps": steps}
    for stream, path in STREAMS.items():
        settings = load_settings(path) if path else Settings()
        for architecture in ("folded", "dawson2021"):
            network = settings.network.model_copy(update={"architecture": architecture})
            figures[f"{stream}: {architecture}"] = measure(settings.model_copy(update={"network": network}), steps)
            print(stream, architecture, figures[f"{stream}: {architecture}"], flush=True)
    keep("architectures", figures)


if __name__ == "__main__":
    main()
