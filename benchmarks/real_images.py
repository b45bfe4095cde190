"""MTMNet and the training-free comparison on real images, beside what the public code scores on the very same episodes.

    python benchmarks/real_images.py --out out/real            run what is missing (about an hour on two cores), then print the table
    python benchmarks/real_images.py --out out/real --store    … and store it in benchmarks/real_images.json

Needs the images, manifests and weights below CDFSS_SHARED (by default shared/ beside the repository), which are not part of the repository.
"""
import argparse
import json
from pathlib import Path

from common import BACKBONES, SETS, here, need_images, real_episodes, run_once

from cdfss.core import set_threads
from cdfss.methods.base import build_method

# Public MTMNet code on these manifests: class mIoU, the mean of its own three seeds (5-shot: one seed); taken beforehand, not measured by this script
PUBLIC = {("wbc", 1): 75.57, ("isic2018", 1): 52.07, ("chest_xray", 1): 72.09, ("nuclei", 1): 29.39, ("skin", 1): 67.23,
          ("wbc", 5): 83.57, ("isic2018", 5): 51.56, ("chest_xray", 5): 79.27}
RUNS = [("mtmnet", "resnet50v2", name, 1, (0, 1, 2)) for name in SETS]
RUNS += [("mtmnet", "resnet50v2", name, 5, (0,)) for name in ("wbc", "chest_xray", "isic2018")]
RUNS += [("mtmnet", net, name, 1, (0,)) for net in ("mobilenet_v2", "squeezenet1_1", "embedded", "resnet18_random") for name in SETS]
RUNS += [("raw", net, name, 1, (0,)) for net in ("resnet50v2", "embedded", "resnet18_random") for name in SETS]
SETTINGS = {"mtmnet": {"preset": "reference", "postprocess": "off"}, "raw": {}}


def run(out: Path, method: str, net: str, name: str, shots: int, seeds: tuple[int, ...], threads: int) -> dict:
    "Run or continue one benchmark; a finished one is only read."
    place, weights = BACKBONES[net]
    build = lambda seed: build_method(method, backbone=here(place), weights=here(weights), seed=seed, **SETTINGS[method])
    return run_once(out/f"{method}_{net}_{name}_{shots}shot", build, real_episodes(name, shots), seeds=seeds, threads=threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/real"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    need_images()
    set_threads(arguments.threads)
    rows = []
    for method, net, name, shots, seeds in RUNS:
        summary = run(arguments.out, method, net, name, shots, seeds, arguments.threads)
        low, high = summary["miou_interval"]
        public = PUBLIC.get((name, shots)) if (method, net) == ("mtmnet", "resnet50v2") else None
        rows.append({"method": method, "backbone": net, "set": name, "shots": shots, "seeds": len(seeds), "miou": round(summary["miou"], 2),
                     "low": round(low, 2), "high": round(high, 2), "fb_iou": round(summary["fb_iou"], 2), "public_miou": public})
        print("{method:7s} {backbone:15s} {set:11s} {shots}-shot, {seeds} seed(s): class mIoU {miou:6.2f} [{low:6.2f}, {high:6.2f}]  "
              "FB-IoU {fb_iou:6.2f}".format(**rows[-1]), flush=True)
    if arguments.store: (Path(__file__).parent/"real_images.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__": main()
