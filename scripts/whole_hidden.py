"""Does training with whole modalities hidden teach in-painting across modalities? For docs/transfer.md.

    python scripts/whole_hidden.py --share 0.5 --steps 300 --out runs/whole-hidden    # goes on from the shipped weights
    python scripts/whole_hidden.py --share 0 --steps 300 --out runs/whole-control     # the same steps as before, for control
    mavil-edu inpaint --checkpoint runs/whole-hidden --hide video --ratio 1

Both arms see the same clips in the same order under masks of the same seed. It is a short continuation, not a run of its own:
`mavil-edu pretrain --config.objective.whole-hidden 0.5` trains so from the start.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from mavil_edu import MAViL
from mavil_edu.config import AugmentConfig, tiny_squares
from mavil_edu.data.loader import training_steps
from mavil_edu.data.world import World
from mavil_edu.progress import tracked
from mavil_edu.train import learning_rate, make_fabric, set_up, update

SEED = 301  # of the training clips: neither those that are scored nor those of the shipped weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.5, help="of the steps at which one modality is wholly hidden")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of masks and order")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    base = tiny_squares()
    config = replace(
        base,
        objective=replace(base.objective, whole_hidden=arguments.share),
        train=replace(base.train, steps=arguments.steps, base_lr=arguments.rate * 256 / base.train.batch),
    )
    fabric, bare = make_fabric(config), MAViL.from_pretrained("tiny-squares").train()
    if bare.config != config.model:
        raise SystemExit("The shipped weights are not of the preset tiny-squares; make them anew: scripts/make_weights.py.")
    model, optimiser = set_up(fabric, bare, config.train)
    clips = World(arguments.clips, SEED, config.model, AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0)))
    stream = training_steps(clips, config.train.batch, arguments.seed)
    for step in tracked(range(arguments.steps), "training", arguments.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config.train)
        losses, _ = update(fabric, model, optimiser, next(stream), config, arguments.seed, step)
    print(f"last step: sound {float(losses.audio):.3f}, picture {float(losses.video):.3f}")
    print(f"{bare.eval().save_pretrained(arguments.out, torch.float32)}")


if __name__ == "__main__":
    main()
