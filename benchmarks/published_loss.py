"""The paper's network as we train it beside the seeds' method: the loss of both after the same steps on the same mock maps.

    python benchmarks/published_loss.py [--steps 600] [--galaxies 512] [--threads 2] [--kinms results/blind_test/galaxies]

Kept in ``published_loss.json``. Both have the encoders of Table 1 with the same first weights, see the same batches of 16 in the same
order, and take Adam's steps at 1e-4 without decay, by the paper's loss: mean squared error over all 4,096 pixels of both maps, the
velocity over 500 km/s. Ranges, and discs drawn uniformly over them, are Table 2's; no beam, no noise.
The decoders differ, and with them what V means. The seeds': a 64^3 cube, V the largest velocity inside the map. Ours: the
quadrature, V the asymptote. Hence two sets of maps, one drawn by each decoder, and a third by neither: the galaxies of the blind test
(`blind_galaxies`: KinMS, with its beam of 2 pixels, which neither decoder has), where these were drawn. The loss of each method is its
own decoder's on those maps, evaluated alike: no dropout, all galaxies once; ``trained on`` and ``held out`` (128 discs that neither
has seen).
``floor`` is each decoder's loss for the discs' true i, r_scale and r_turn, V such that the largest velocity is the map's: 0 where the
maps are its own, else what the two decoders differ by.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from blind_galaxies import observe, read_shard
from network_speed import BATCH, draw_parameters, paper_settings, paper_stamps
from record import keep
from seed_method import SeedNetwork, cube_maps, seed_loss

from tullyflow.disc.projection import project_disc
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters, map_loss
from tullyflow.network.batch import Stamps

HELD_OUT, SEEDS = 128, (0,)
CHUNK = 32
KINMS_BEAM, FAINTEST = 2.0, 1e-3  # pixels, of the peak: as in the blind test


def maps_of(decoder: str, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the maps (galaxy, y, x) that a decoder draws of parameters (galaxy, 4)."""
    draw = cube_maps if decoder == "the cube" else project_disc
    parts = [tuple(draw(*part.unbind(1))) for part in parameters.split(CHUNK)]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def kinms_stamps(folder: Path, galaxies: int) -> tuple[torch.Tensor, Stamps]:
    """Return parameters (galaxy, 4) and stamps of the first galaxies of the blind test."""
    parts, files = [], sorted(folder.glob("[0-9]*.npz"))
    while sum(len(p.truth) for p in parts) < galaxies:
        parts.append(observe(read_shard(files[len(parts)]), KINMS_BEAM, FAINTEST))
    names = ("truth", "intensity", "velocity", "valid")
    truth, intensity, velocity, valid = (torch.as_tensor(np.concatenate([getattr(p, k) for p in parts])[:galaxies]) for k in names)
    stamps = paper_stamps(truth.float(), (intensity.float(), velocity.float()))
    return truth.float(), replace(stamps, valid=valid)


def our_loss(model: DiscAutoencoder, stamps: Stamps) -> torch.Tensor:
    return map_loss(model(stamps), stamps, model.network).total.mean()


def their_loss(model: SeedNetwork, stamps: Stamps) -> torch.Tensor:
    return seed_loss(model(stamps.intensity, stamps.velocity), stamps.intensity, stamps.velocity, stamps.valid)


@torch.no_grad()
def evaluated(model, loss_of, stamps: Stamps) -> float:
    """Return the loss over all galaxies, without dropout."""
    model.eval()
    losses = [loss_of(model, stamps.select(slice(k, k + CHUNK))) for k in range(0, len(stamps), CHUNK)]  # equal parts
    model.train()
    return torch.stack(losses).mean().item()


@torch.no_grad()
def floors(stamps: Stamps, parameters: torch.Tensor) -> dict[str, float]:
    """Return the loss of each decoder for the true parameters, V fitted to the largest velocity of each map."""
    largest = stamps.velocity.abs().amax((1, 2))
    model, theirs, ours = DiscAutoencoder(paper_settings().network), [], []
    for k in range(0, len(stamps), CHUNK):
        part, (i, r_scale, r_turn, _) = stamps.select(slice(k, k + CHUNK)), parameters[k : k + CHUNK].unbind(1)
        top = largest[k : k + CHUNK]
        theirs.append(seed_loss(cube_maps(i, r_scale, r_turn, top), part.intensity, part.velocity, part.valid))
        unit = project_disc(i, r_scale, r_turn, torch.ones_like(top)).velocity.amax((1, 2))
        maps = model.decode(DiscParameters(i, r_scale, r_turn, top / unit), part.beam)
        ours.append(map_loss(maps, part, model.network).total.mean())
    return {"seeds": torch.stack(theirs).mean().item(), "ours": torch.stack(ours).mean().item()}


def train_both(train: Stamps, held: Stamps, steps: int, seed: int) -> dict:
    """Train both from the same weights and return their losses, before and after."""
    torch.manual_seed(seed)
    theirs = SeedNetwork()
    ours = DiscAutoencoder(paper_settings().network)
    for mine, its in ((ours.encoders.intensity, theirs.intensity_encoder), (ours.encoders.velocity, theirs.velocity_encoder)):
        mine.load_state_dict(its.state_dict())
    ours = ours.to(memory_format=torch.channels_last)
    found = {}
    for name, model, loss_of in (("seeds", theirs, their_loss), ("ours", ours, our_loss)):
        optimizer, generator = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True), torch.Generator().manual_seed(seed)
        before, began = evaluated(model, loss_of, train), time.perf_counter()
        torch.manual_seed(seed)  # dropout
        order = torch.empty(0, dtype=torch.long)
        for _ in range(steps):
            if len(order) < BATCH:
                order = torch.randperm(len(train), generator=generator)
            chosen, order = order[:BATCH], order[BATCH:]
            optimizer.zero_grad()
            loss_of(model, train.select(chosen)).backward()
            optimizer.step()
        found[name] = {
            "before": before, "trained on": evaluated(model, loss_of, train), "held out": evaluated(model, loss_of, held),
            "s": time.perf_counter() - began,
        }  # fmt: skip
    return found


def rounded(values: dict) -> dict:
    return {k: rounded(v) if isinstance(v, dict) else float(f"{v:.4g}") for k, v in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--galaxies", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kinms", type=Path, help="folder of galaxies drawn for the blind test")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = {"steps": args.steps, "galaxies": args.galaxies}
    for decoder in ("our quadrature", "the cube", *(["KinMS"] if args.kinms else [])):
        parameters = draw_parameters(args.galaxies + HELD_OUT, 1)
        if decoder == "KinMS":
            parameters, stamps = kinms_stamps(args.kinms, args.galaxies + HELD_OUT)
        else:
            stamps = paper_stamps(parameters, maps_of(decoder, parameters))
        train, held = stamps.select(slice(0, args.galaxies)), stamps.select(slice(args.galaxies, None))
        runs = {f"weights {seed}": train_both(train, held, args.steps, seed) for seed in SEEDS}
        ratios = {
            kind: sum(run["ours"][kind] for run in runs.values()) / sum(run["seeds"][kind] for run in runs.values())
            for kind in ("trained on", "held out")
        }
        floor = floors(held, parameters[args.galaxies :])
        figures[f"maps drawn by {decoder}"] = rounded({**runs, "ours over the seeds'": ratios, "floor": floor})
        print(decoder, ratios, flush=True)
    keep("published_loss", figures)


if __name__ == "__main__":
    main()
