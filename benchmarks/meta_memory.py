"""Meta-memory, the small variant: practise on drawn objects or on photographs of people, segment targets that look different.

    python benchmarks/meta_memory.py --out out/meta_memory              run what is missing, then print the tables
    python benchmarks/meta_memory.py --out out/meta_memory --store      … and store them in benchmarks/meta_memory.json
    python benchmarks/meta_memory.py --seeds 10 --variants all --steps 50    another seed, fewer steps: how the settings were looked for
    python benchmarks/meta_memory.py --steps 1000 --seeds 0 --variants Cons --store    five times as long, one seed

Two sources: the eight drawn kinds of objects, and 200 street photographs with labels of clothes ("people"). Targets: three drawn sets, and
real blood cells and lesions. It can be stopped at any time, also by kill -9, and goes on from its checkpoints. ResNet-18's weights and the
real images lie below CDFSS_SHARED (by default shared/ beside the repository) and are not part of the repository. About 3500 CPU seconds in all.
"""
import argparse
import json
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import here, need_images, real_episodes

from cdfss.core import atomic_path, set_threads, shared
from cdfss.data.episodes import Episodes, sample_manifest
from cdfss.data.images import read_labels
from cdfss.data.readers import Layout, PartsReader, open_dataset
from cdfss.data.samples import sample_root
from cdfss.evaluate.benchmark import episode_rows, summarise, versions
from cdfss.evaluate.domains import seed_table
from cdfss.methods.base import Prediction, build_method
from cdfss.methods.meta_memory import LADDER, MetaMemory, Remembering
from cdfss.model.backbone import backbone

SIZE, TRAINED_AT, STEPS = 256, 128, 200     # in equal time, 200 steps at 128 pixels taught more than 60 at 256 (seed 10)
VARIANTS = ("baseline", "Cons", "MEnS + MEnT", "all", "nearest rows")
DRAWN, REAL = ("wbc", "isic2018", "chest_xray"), ("wbc", "isic2018", "skin")
EPISODES = {"drawn": 12, "real": 30}
PLUGGED = {"raw": dict(), "mtmnet": dict(preset="fast", postprocess="off")}


class People(PartsReader):
    "Street photographs with labels of clothes, hair and skin."
    name, title = "people", "people"
    class_names = tuple(json.loads(shared("data", "people", "labels.json").read_text())) if shared("data", "people", "labels.json") else ()
    layouts = (Layout("images", ("masks/{stem}.png",)),)
    smallest, fewest = 4000, 8                           # pixels of 400 × 600 or so, and images of a class that takes part

    def __init__(self, root):
        self.labels = self.class_names
        super().__init__(root)
        often = [name for name, _, pixels in self.catalogue() if pixels >= self.smallest]
        self.class_names = tuple(name for name in self.labels[1:] if often.count(name) >= self.fewest)

    def catalogue(self):
        "Every label of every image."
        for file in sorted((self.root/"masks").iterdir()):
            for number, pixels in zip(*np.unique(read_labels(file), return_counts=True)):
                yield self.labels[number], (f"images/{file.stem}.jpg", f"masks/{file.name}#{number}"), int(pixels)


def targets() -> dict[str, Episodes]:
    "All targets: name → episodes."
    found = {}
    for name in DRAWN:
        reader = open_dataset(name, sample_root(name))
        manifest = sample_manifest(reader, 1, EPISODES["drawn"], 0, image_size=SIZE)
        found[f"drawn {name}"] = Episodes(manifest, reader.root, reader.is_foreground)
    for name in REAL:
        episodes = real_episodes(name, image_size=SIZE)
        entries = episodes.manifest.entries[:EPISODES["real"]]
        found[name] = Episodes(replace(episodes.manifest, entries=entries, lines=()), episodes.root, episodes.is_foreground, check=False)
    return found


def network():
    "ResNet-18 up to layer3."
    return backbone("resnet18", here("weights/resnet18_stem_to_layer3.pth"), 2)


def open_source(name: str):
    "A source by its name."
    return People(shared("data", "people")) if name == "people" else open_dataset("fss1000", sample_root("fss1000"))


def measure(method) -> dict[str, float]:
    "Class mIoU in percent on every target."
    return {name: summarise(list(episode_rows(method, own)), own.manifest.classes)["miou"] for name, own in targets().items()}


class Middle:
    "Always answers a square in the middle: what can be had without looking."
    device = "cpu"
    def fresh(self): return self
    def adapt(self, support, queries=None): return self
    def use_support(self, support): return self

    def predict(self, image):
        "A square of half the side."
        h, w = image.shape[-2:]
        mask = torch.zeros(1, h, w, dtype=torch.bool)
        mask[:, h//4:-h//4, w//4:-w//4] = True
        return Prediction(mask, mask.float(), torch.tensor([.5]), torch.tensor([False]))


def run(job: tuple) -> list[dict]:
    "Train one variant on one source, and measure it."
    source, variant, seed, steps, out = job
    set_threads(1)
    warnings.simplefilter("ignore")
    done = out/f"{source} {variant} {seed}.json"
    if done.exists(): return json.loads(done.read_text())
    method = MetaMemory(network(), preset="small", device="cpu", seed=seed, folder=out/f"{source} {variant} {seed}",
                        **{"size": TRAINED_AT, "area": 7.0, "steps": steps, **LADDER[variant]}).fit_source(open_source(source))
    rows = [dict(task=f"{source} → {name}", variant=variant, seed=seed, miou=miou) for name, miou in measure(method).items()]
    if variant == "all":
        square = measure(Middle())
        rows += [dict(task=f"{source} → {to}", variant="square in the middle", seed=seed, miou=miou) for to, miou in square.items()]
        for name, how in PLUGGED.items():
            for title, net in {"plain": network(), "with the memory": Remembering(method)}.items():
                found = measure(build_method(name, backbone=net, device="cpu", seed=seed, **how))
                rows += [dict(task=f"{source} → {to}", variant=f"{name}, {title}", seed=seed, miou=miou) for to, miou in found.items()]
    with atomic_path(done) as partial: partial.write_text(json.dumps(rows))
    for row in rows: print("{task:26s} {variant:24s} seed {seed}: {miou:5.1f}".format(**row), flush=True)
    return rows


def lines(run: dict) -> str:
    "One row of scores a line, so that a change can be read."
    rows = ",\n".join("   " + json.dumps({**row, "miou": round(row["miou"], 2)}) for row in run["rows"])
    return json.dumps({**run, "rows": 0}).replace('"rows": 0', f'"rows": [\n{rows}\n  ]')


def tables(rows: list[dict]) -> list[dict]:
    "Means over seeds and paired gains: over the variant without memory and contrast, and over the plain backbone."
    own = [row for row in rows if row["variant"] in (*LADDER, "square in the middle")]
    bases = {"baseline": own, **{f"{name}, plain": [row for row in rows if row["variant"].startswith(name)] for name in PLUGGED}}
    return [entry for base, some in bases.items() if any(row["variant"] == base for row in some) for entry in seed_table(some, base)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/meta_memory"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sources", nargs="+", default=["drawn", "people"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    need_images()
    out = arguments.out/f"{arguments.steps} steps"
    out.mkdir(parents=True, exist_ok=True)
    jobs = [(source, variant, seed, arguments.steps, out) for seed in arguments.seeds
            for source in arguments.sources for variant in arguments.variants]
    with ProcessPoolExecutor(arguments.workers) as pool: rows = [row for found in pool.map(run, jobs) for row in found]
    for row in tables(rows): print("{task:26s} {variant:24s} {mIoU:5.1f} {gain} {low} {high}".format(**row))
    if arguments.store:
        file = Path(__file__).parent/"meta_memory.json"
        stored = json.loads(file.read_text()) if file.exists() else {}
        stored[f"{arguments.steps} steps"] = dict(size=TRAINED_AT, episodes=EPISODES, rows=rows, versions=versions())
        file.write_text("{\n" + ",\n".join(f' "{name}": {lines(run)}' for name, run in stored.items()) + "\n}\n")


if __name__ == "__main__": main()
