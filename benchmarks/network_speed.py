"""The network beside the seeds' method (`seed_method`): a training step, the memory it keeps, Monte-Carlo inference.

    python benchmarks/network_speed.py [--threads 2] [--rounds 15] [--no-compile]

Kept in ``network_speed.json``: milliseconds, best and median, all in turns in one run. Both train the encoders of Table 1 on the same
16 mock stamps by the paper's loss, without a beam. Two processes take turns, since what memory costs is the allocator's doing:
``published`` runs the seeds' method in a process as it comes, ``kept`` in one that keeps freed memory as the package's commands do
(`keep_freed_memory`), where all that is ours runs. Every ratio is of medians and stands against both.
Our step is that of `fit_stamps`, taken by its own code; ``compiled`` is with ``network.compile``; ``bf16`` is the eager step with the
encoders in bfloat16 (torch.autocast).
Saved: bytes kept for the backward pass, each storage once, the weights left out; of the decoder with the loss, and of the whole step.
Inference: 16 galaxies, 100 samples; and galaxies per second of the default network with its errors (`sample_posterior`), 256 of them.
"""

import argparse
import multiprocessing
import statistics
import time
from contextlib import suppress

import torch
from record import keep
from seed_method import SeedNetwork, cube_maps, seed_loss

from tullyflow.disc.projection import project_disc
from tullyflow.network import fitting
from tullyflow.network.allocator import keep_freed_memory
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters, map_loss
from tullyflow.network.batch import Stamps
from tullyflow.network.calibration import identity
from tullyflow.network.inference import sample_posterior
from tullyflow.network.memory import BatchSize
from tullyflow.network.synthetic import draw_discs
from tullyflow.settings import Settings, parse_settings

BATCH, SAMPLES, GALAXIES = 16, 100, 256
SLOW = {"published inference", "kept inference"}
PAPER = {
    "ranges": {"inclination_deg": [10, 90], "r_scale": [0.1, 0.35], "r_turn": [0.01, 0.8], "v_max": [50, 500]},
    "architecture": "dawson2021", "log_scale": False, "velocity_norm": 500, "loss": "mse", "mean_over": "all", "intensity_scale": "peak",
    "beam": False, "beam_input": False, "rehearsal": 0, "batch_size": BATCH, "learning_rate": 1e-4, "dropout": 0.1,
}  # fmt: skip


def paper_settings(**changes) -> Settings:
    """Return settings whose network is the paper's (config/dawson2021.yaml)."""
    return parse_settings({"device": "cpu", "network": PAPER | changes})


def paper_stamps(parameters: torch.Tensor, maps: tuple[torch.Tensor, torch.Tensor]) -> Stamps:
    """Return stamps without noise, all pixels valid, of maps (galaxy, y, x) of discs (galaxy, 4)."""
    n, intensity = len(parameters), maps[0]
    return Stamps(
        intensity, torch.full_like(intensity, 0.01), maps[1], torch.full_like(intensity, 5.0), torch.ones_like(intensity, dtype=torch.bool),
        torch.zeros(n), torch.full((n,), 500.0),
    )  # fmt: skip


def draw_parameters(n: int, seed: int) -> torch.Tensor:
    """Return parameters (galaxy, 4), uniform over the paper's ranges."""
    low, high = torch.tensor([*PAPER["ranges"].values()]).double().unbind(1)
    return (low + (high - low) * torch.rand((n, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).float()


def saved_bytes(forward) -> int:
    """Return the bytes that the graph of a scalar keeps for its backward pass, without the weights."""
    storages, held = {}, []

    def pack(tensor):
        held.append(tensor)
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model, loss = forward()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()} if model else set()
    loss.backward()
    return sum(size for at, size in storages.items() if at not in weights)


class Seed:
    """The seeds' method on some stamps."""

    def __init__(self, stamps: Stamps):
        torch.manual_seed(0)
        self.model, self.stamps = SeedNetwork(), stamps
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)

    def loss(self) -> torch.Tensor:
        s = self.stamps
        return seed_loss(self.model(s.intensity, s.velocity), s.intensity, s.velocity, s.valid)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def sample(self) -> None:
        self.model.sample(self.stamps.intensity, self.stamps.velocity, SAMPLES)

    def decoder_bytes(self, parameters: torch.Tensor) -> int:
        s, leaves = self.stamps, [p.clone().requires_grad_() for p in parameters.unbind(1)]
        return saved_bytes(lambda: (None, seed_loss(cube_maps(*leaves), s.intensity, s.velocity, s.valid)))


class Ours:
    """Our network in the paper's configuration on some stamps; ``compile`` as the setting."""

    def __init__(self, stamps: Stamps, bf16: bool = False, **changes):
        torch.manual_seed(0)
        network = paper_settings(**changes).network
        self.model, self.stamps, self.bf16 = DiscAutoencoder(network).to(memory_format=torch.channels_last), stamps, bf16
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)
        self.generator, self.order = torch.Generator().manual_seed(0), torch.arange(len(stamps))
        self.loss_of = fitting.survey_loss(self.model)

    def step(self) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            fitting._epoch(
                self.model, self.optimizer, self.stamps, self.order, BatchSize(BATCH), self.generator,
                rehearsal=0.0, templates=None, whole_batch=self.loss_of,
            )  # fmt: skip

    def loss(self) -> torch.Tensor:
        return self.loss_of(self.model, self.stamps).mean(dim=1).sum()

    def sample(self) -> None:
        self.model.sample(self.stamps, SAMPLES, self.generator)

    def decoder_bytes(self, parameters: torch.Tensor) -> int:
        leaves = [p.clone().requires_grad_() for p in parameters.unbind(1)]

        def forward():
            maps = self.model.decode(DiscParameters(*leaves), self.stamps.beam)
            return None, map_loss(maps, self.stamps, self.model.network).total.mean()

        return saved_bytes(forward)


def default_inference():
    """Return a function that infers 256 galaxies with the default network and 100 samples."""
    torch.manual_seed(0)
    model = DiscAutoencoder(Settings().network).to(memory_format=torch.channels_last).eval()
    generator = torch.Generator().manual_seed(0)
    stamps = draw_discs(GALAXIES, model, generator).stamps
    return lambda: sample_posterior(model, stamps, identity(), SAMPLES, generator)


def work(kind: str, threads: int, compile_too: bool, pipe) -> None:
    """Answer names of tasks with their seconds, until None comes."""
    torch.set_num_threads(threads)
    if kind == "kept":
        keep_freed_memory()
    parameters = draw_parameters(BATCH, 1)
    stamps = paper_stamps(parameters, tuple(project_disc(*parameters.unbind(1))))
    seed = Seed(stamps)
    tasks = {"step": seed.step, "inference": seed.sample}
    memory = {}
    if kind == "kept":
        ours, low = Ours(stamps), Ours(stamps, bf16=True)
        tasks |= {"our step": ours.step, "our step bf16": low.step, "our inference": ours.sample, "default inference": default_inference()}
        if compile_too:
            quick, began = Ours(stamps, compile=True), time.perf_counter()
            quick.step()
            memory["compiling_s"] = round(time.perf_counter() - began, 1)
            tasks["our step compiled"] = quick.step
        for name, method in {"seed": seed, "ours": ours, **({"ours_compiled": quick} if compile_too else {})}.items():
            if name != "ours_compiled":
                memory[f"{name}_decoder_and_loss"] = method.decoder_bytes(parameters)
            memory[f"{name}_step"] = saved_bytes(lambda method=method: (method.model, method.loss()))
    pipe.send((list(tasks), memory))
    while name := pipe.recv():
        began = time.perf_counter()
        tasks[name]()
        pipe.send(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    began = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    pipes, processes, turns, memory = {}, [], [], {}
    for kind in ("published", "kept"):
        pipes[kind], theirs = spawn.Pipe()
        processes.append(spawn.Process(target=work, args=(kind, args.threads, not args.no_compile, theirs), daemon=True))
        processes[-1].start()
        names, found = pipes[kind].recv()
        memory |= found
        turns += [(kind, name) for name in names]
    times = {f"{kind} {name}": [] for kind, name in turns}
    for k in range(args.rounds + 1):
        for kind, name in turns:
            if f"{kind} {name}" in SLOW and k % 5 > 1:
                continue
            pipes[kind].send(name)
            times[f"{kind} {name}"].append(1e3 * pipes[kind].recv())
    for kind, process in zip(pipes, processes, strict=True):
        with suppress(BrokenPipeError):
            pipes[kind].send(None)
        process.join(10)
    times = {name: taken[1:] for name, taken in times.items()}  # the first is warming up
    middle = {name: statistics.median(taken) for name, taken in times.items()}

    def ratios(ours: str, task: str) -> dict:
        return {f"against {kind}": round(middle[f"{kind} {task}"] / middle[f"kept {ours}"], 2) for kind in pipes}

    steps = [name for name in ("our step", "our step compiled", "our step bf16") if f"kept {name}" in middle]
    figures = {
        "threads": args.threads,
        "ms": {name: {"best": round(min(taken), 1), "median": round(middle[name], 1)} for name, taken in times.items()},
        "training step, times faster": {name: ratios(name, "step") for name in steps},
        "inference of 100 samples, times faster": ratios("our inference", "inference"),
        "default network, galaxies per s with 100 samples": round(GALAXIES / middle["kept default inference"] * 1e3),
        "saved": memory,
        "saved, share of the seeds'": {
            "decoder and loss": round(memory["ours_decoder_and_loss"] / memory["seed_decoder_and_loss"], 3),
            **{name: round(memory[name] / memory["seed_step"], 3) for name in ("ours_step", "ours_compiled_step") if name in memory},
        },
        "benchmark_s": round(time.perf_counter() - began),
    }
    keep("network_speed", figures)


if __name__ == "__main__":
    main()
