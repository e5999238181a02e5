"""Makes the small model that comes with the package, in mavil_edu/weights/tiny.

    python scripts/make_weights.py

Trains the tiny preset on generated clips as `mavil-edu demo` does, but for longer (2,500 steps of 64 clips, 18 minutes
on a busy two-core CPU), and saves it in float16.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from mavil_edu import MAViL, tiny
from mavil_edu.checkpoint import SHIPPED
from mavil_edu.run import demo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--run", type=Path, default=Path("runs/weights"))
    arguments = parser.parse_args()
    train = replace(tiny().train, steps=arguments.steps, batch=64, base_lr=8e-3)
    demo(arguments.run, None, arguments.clips, seed=0, config=replace(tiny(), train=train))
    folder = MAViL.from_pretrained(arguments.run).save_pretrained(SHIPPED / "tiny", torch.float16)
    print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
