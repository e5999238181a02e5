"""Makes the small model that comes with the package, in mavil_edu/weights/tiny.

    python scripts/make_weights.py --minutes 15

Trains the tiny preset on generated clips as `mavil-edu demo` does, for longer, and saves it in float16.
"""

import argparse
from pathlib import Path

import torch

from mavil_edu import MAViL
from mavil_edu.checkpoint import SHIPPED
from mavil_edu.run import demo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--run", type=Path, default=Path("runs/weights"))
    arguments = parser.parse_args()
    demo(arguments.run, arguments.minutes, arguments.clips, seed=0)
    folder = MAViL.from_pretrained(arguments.run).save_pretrained(SHIPPED / "tiny", torch.float16)
    print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
