"""How fast velocity fields in memory are judged: usability and circularity together, beside the two published networks.

    python benchmarks/judged_speed.py [--fields 4096] [--rounds 5] [--processes 2]

Kept in ``judged_speed.json``: fields per second of gas, each with its stars, best and median of the rounds, which alternate between ours
and the published ones (untrained: their weights do not change their speed) in as many processes of one thread as there are cores. Fields
are those of simulated galaxies, repeated; scaling to [-1, 1] is part of both. Memory is the largest resident set of a process.
"""

import argparse
import multiprocessing
import resource
import statistics
import time

import numpy as np
import torch
from record import keep

from tullyflow.network.judges.circularity import CircularityNetwork, circularity_of
from tullyflow.network.judges.circularity_maps import simulate_fields
from tullyflow.network.judges.fields import fields_of
from tullyflow.network.judges.judged import load_judges
from tullyflow.network.judges.latent_circularity import LatentCircularity
from tullyflow.network.judges.usability import UsabilityNetwork, usable_of


def published_judges():
    """A function (gas, stars) that asks the published networks."""
    usability, circularity = UsabilityNetwork("duckworth2019").eval(), CircularityNetwork("dawson2020", LatentCircularity().eval(), {})

    def judge(gas, stars):
        (fields, judged), (stellar, stellar_judged) = fields_of(gas), fields_of(stars)
        usable_of(usability, fields, judged, stellar, stellar_judged)
        circularity_of(circularity, fields, judged)

    return judge


def work(kind: str, fields: np.ndarray, start, answer) -> None:
    """Judge the fields once for every time the parent asks, and send the seconds; the first, unasked, warms up."""
    torch.set_num_threads(1)
    judge = load_judges().judge if kind == "ours" else published_judges()
    stars = np.roll(fields, 1, axis=0)
    judge(fields[:256], stars[:256])
    answer.put(("ready", 0.0))
    while start.get():
        began = time.perf_counter()
        judge(fields, stars)
        answer.put((kind, time.perf_counter() - began))
    answer.put(("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    drawn = simulate_fields(64, 4, seed=5).field
    fields = np.concatenate([drawn] * (args.fields // len(drawn)))
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    starts = {kind: [context.Queue() for _ in range(args.processes)] for kind in ("ours", "published")}
    workers = [context.Process(target=work, args=(kind, fields, start, answer)) for kind, queues in starts.items() for start in queues]
    for worker in workers:
        worker.start()
    for _ in workers:
        answer.get()
    rates = {kind: [] for kind in starts}
    for _ in range(args.rounds):
        for kind, queues in starts.items():
            for start in queues:
                start.put(True)
            slowest = max(answer.get()[1] for _ in queues)
            rates[kind].append(args.processes * len(fields) / slowest)
    memory = []
    for queues in starts.values():
        for start in queues:
            start.put(False)
        memory.append(max(answer.get()[1] for _ in queues))
    for worker in workers:
        worker.join()
    found = {kind: {"best": round(max(values)), "median": round(statistics.median(values))} for kind, values in rates.items()}
    keep("judged_speed", {
        "fields of gas, each with its stars": len(fields), "processes": args.processes, "per second": found,
        "ours over published, medians": round(found["ours"]["median"] / found["published"]["median"], 2),
        "memory of a process, MB": dict(zip(starts, map(round, memory), strict=True)),
    })  # fmt: skip


if __name__ == "__main__":
    main()
