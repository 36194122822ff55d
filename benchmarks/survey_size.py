"""How large a survey must be to train on: 20, 200 and 2,000 galaxies, from random and from synthetic weights; solo, combined, blind.

    python benchmarks/survey_size.py --weights DIR [--steps 1500] [--adapt-steps 500] [--sizes 20 200 2000]

The galaxies are none of the network's own (`survey_galaxies`). Every training is `fit_stamps`, the loop of ``tullyflow train``, on the
stamps themselves, with the same number of steps whatever the size (so 2,000 galaxies get a hundredth of the epochs that 20 get) and a
learning rate that falls tenfold; from synthetic weights (DIR, made by ``tullyflow pretrain``) with rehearsal, of all kinds and of the
survey's own, as in a real run. Networks read the stamps without dropout, as at the middle of their
samples.

* solo: trained on the survey, asked about the survey. unseen: the same network asked about 300 others of its kind.
* combined: trained on the survey and 200 galaxies of the other survey, asked about the survey.
* blind: the survey's own galaxies asked of a network that was trained on those 300 others instead.
* as it came: asked of the synthetic weights, untrained on any of these.
* across: a network trained on 200 galaxies of one survey asked about 300 of the other.

Kept in survey_size.json. One thread.
"""

import argparse
import time
from pathlib import Path

import torch
from mock_stamps import load, mean_field
from record import keep
from survey_galaxies import COMPARED, KINDS, Survey, compare, draw_survey

from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters
from tullyflow.network.batch import Stamps
from tullyflow.network.fitting import fit_stamps
from tullyflow.network.synthetic import Templates
from tullyflow.settings import Network

SEED = 2026
OTHERS, UNSEEN = 200, 300
LAST_RATE = 0.1  # of the first learning rate
DECAYS = 12


class Trainer:
    """Trains networks of one setting from random weights or copies of a start, and says how long it took."""

    def __init__(self, weights: Path, steps: dict[str, int]):
        self.weights, self.steps = weights, steps
        self.network = load(weights).model.network

    def start(self, initial: str, network: Network) -> DiscAutoencoder:
        model = DiscAutoencoder(network).to(memory_format=torch.channels_last)
        if initial == "synthetic":
            model.load_state_dict(load(self.weights).model.state_dict())
        return model

    def templates(self, model: DiscAutoencoder, stamps: Stamps) -> Templates:
        """The survey's galaxies as the network sees them, for discs like them: what ``tullyflow train`` rehearses with."""
        found = torch.as_tensor(mean_field(model, stamps), dtype=torch.float32)
        return Templates(stamps, DiscParameters(*found.unbind(1)), torch.ones(len(stamps)), torch.ones(len(stamps), dtype=torch.bool))

    def train(self, survey: Survey, initial: str) -> tuple[DiscAutoencoder, dict]:
        n, steps = len(survey.stamps), self.steps[initial]
        epochs = max(1, round(steps / -(-n // self.network.batch_size)))
        every = max(1, epochs // DECAYS)
        schedule = {"epochs": epochs, "decay_every": every, "decay": LAST_RATE ** (every / epochs), "early_stop": 0}
        torch.manual_seed(SEED)
        model = self.start(initial, self.network.model_copy(update=schedule))
        names, generator = [str(k) for k in range(n)], torch.Generator().manual_seed(SEED)
        wall, busy = time.perf_counter(), time.process_time()
        nothing, own = survey.stamps.select(slice(0, 0)), self.templates(model, survey.stamps) if initial == "synthetic" else None
        fit_stamps(model, survey.stamps, names, nothing, [], generator, own is not None, templates=own)
        took = {"seconds": round(time.perf_counter() - wall, 1), "processor seconds": round(time.process_time() - busy, 1)}
        return model, {"epochs": epochs, **took}


def asked(model: DiscAutoencoder, survey: Survey) -> dict:
    return compare(mean_field(model, survey.stamps), survey.truth)


def show(rows: dict[str, dict]) -> None:
    heads = ("i (deg)", "r_scale (%)", "V_2.2 sin i (%)", "V_asym sin i (%)")
    print("68 % within, bias".ljust(58), *(h.rjust(17) for h in heads))
    for title, row in rows.items():
        print(title.ljust(58), *(f"{row[c]['68 % within']:9.2f} {row[c]['bias']:7.2f}" for c in COMPARED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of a network trained on synthetic discs alone")
    parser.add_argument("--steps", type=int, default=1500, help="of each training from random weights")
    parser.add_argument("--adapt-steps", type=int, default=500, help="of each training from synthetic weights")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 200, 2000])
    args = parser.parse_args()
    torch.set_num_threads(1)
    trainer = Trainer(args.weights, {"none": args.steps, "synthetic": args.adapt_steps})
    own_kind, other_kind = KINDS.values()

    def drawn(kind, n: int, stream: int) -> Survey:
        return draw_survey(kind, n, torch.Generator().manual_seed(SEED + stream), trainer.network)

    whole, unseen = drawn(own_kind, max(args.sizes), 1), drawn(own_kind, UNSEEN, 2)
    others, others_unseen = drawn(other_kind, OTHERS, 3), drawn(other_kind, UNSEEN, 4)
    came = trainer.start("synthetic", trainer.network)
    rows = {f"as it came, {k.name}": asked(came, s) for k, s in ((own_kind, unseen), (other_kind, others_unseen))}
    rows |= {f"as it came, first {n} of {own_kind.name}": asked(came, whole.select(slice(0, n))) for n in args.sizes}
    for initial in ("none", "synthetic"):
        blind, took = trainer.train(unseen, initial)
        for n in args.sizes:
            survey, title = whole.select(slice(0, n)), f"{n} {initial}"
            model, solo_took = trainer.train(survey, initial)
            rows[f"{title}: solo"] = asked(model, survey) | solo_took
            rows[f"{title}: unseen"] = asked(model, unseen)
            if n == OTHERS:
                rows[f"across: trained on {own_kind.name} {initial}, asked {other_kind.name}"] = asked(model, others_unseen)
            model, combined_took = trainer.train(Survey.joined([survey, others]), initial)
            rows[f"{title}: combined"] = asked(model, survey) | combined_took
            rows[f"{title}: blind"] = asked(blind, survey) | took
        model, took = trainer.train(others, initial)
        rows[f"{other_kind.name} {OTHERS} {initial}: solo"] = asked(model, others) | took
        rows[f"{other_kind.name} {OTHERS} {initial}: unseen"] = asked(model, others_unseen)
        rows[f"across: trained on {other_kind.name} {initial}, asked {own_kind.name}"] = asked(model, unseen)
    show(rows)
    keep("survey_size", {
        "architecture": trainer.network.architecture, "steps": trainer.steps, "units": "inclination deg, the others per cent",
        "surveys": {k.name: vars(k) for k in KINDS.values()}, "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
