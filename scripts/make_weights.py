"""Makes the small models that come with the package, in mavil_edu/weights/.

    python scripts/make_weights.py                                  # trains as `mavil-edu demo`, for 10 minutes on 7,500 clips
    python scripts/make_weights.py --run runs/small-scale/full-0    # takes a run that is there, and trains nothing

The weights in the repository are those of `scripts/small_scale.py --only full --seeds 0 --out tiny.json`, in float16: `tiny`, and with
`--preset tiny-squares --runs runs/squares` (here `--name tiny-squares`) the model that `mavil-edu localise` asks.
"""

import argparse
from pathlib import Path

import torch

from mavil_edu import MAViL
from mavil_edu.checkpoint import SHIPPED
from mavil_edu.run import demo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clips", type=int, default=7500)
    parser.add_argument("--run", type=Path, default=Path("runs/weights"))
    parser.add_argument("--name", default="tiny", help="of the folder in mavil_edu/weights/")
    arguments = parser.parse_args()
    if not (arguments.run / "summary.json").exists():
        demo(arguments.run, arguments.minutes, arguments.clips, seed=0)
    folder = MAViL.from_pretrained(arguments.run).save_pretrained(SHIPPED / arguments.name, torch.float16)
    print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
