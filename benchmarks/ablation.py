"""What each part of MTMNet brings on real images: parts taken from the full method, and parts added to nothing, on the very same episodes.

    python benchmarks/ablation.py --out out/ablation                     run what is missing, then print the table
    python benchmarks/ablation.py --out out/ablation --store             … and store it in benchmarks/ablation.json
    python benchmarks/ablation.py --image-size 200 --seeds 0,1 --store   smaller images, fewer seeds: much less time
    python benchmarks/ablation.py --study fast --backbone resnet50v2 --store      what saves time, into benchmarks/fast.json
    python benchmarks/ablation.py --study default --backbone resnet50v2 --store   the steps to what MTMNet() does, into benchmarks/default.json
    python benchmarks/ablation.py --study default --backbone resnet50v2 --shots 5 --variants self-support --store default_5shot

It can be stopped at any time and goes on where it stopped. Needs the images and manifests below CDFSS_SHARED, as real_images.py does.
"""
import argparse
import json
from dataclasses import replace
from pathlib import Path

from common import BACKBONES, SETS, here, need_images, real_episodes, run_once

from cdfss.core import set_threads, unknown_name
from cdfss.evaluate.benchmark import read_rows, summarise, versions
from cdfss.evaluate.report import mean_difference
from cdfss.methods.base import build_method
from cdfss.methods.mtmnet import MTMNet
from cdfss.model.backbone import CachedBackbone, backbone
from cdfss.model.decide import binarise

COMMON = {"preset": "reference", "postprocess": "off"}
NOTHING = dict(contrast=0.0, prototype=0.0, mask=0.0, triplet=0.0, keep=0.0)
alone = lambda *terms: NOTHING | {term: 1.0 for term in terms}
VARIANTS = {  # name -> what differs from the full method
    "full": {},
    "without contrast": dict(contrast=0.0),
    "without prototype": dict(prototype=0.0),
    "without mask": dict(mask=0.0),
    "without triplet": dict(triplet=0.0),
    "without mask and triplet": dict(mask=0.0, triplet=0.0),
    "with keep": dict(keep=1.0),
    "contrast alone": alone("contrast"),
    "prototype alone": alone("prototype"),
    "mask alone": alone("mask"),
    "triplet alone": alone("triplet"),
    "keep alone": alone("keep"),
    "random heads": dict(steps=0),
    "mask_target round": dict(mask_target="round"),
    "normalise_compare": dict(normalise_compare=True),
    "bn_mode running": dict(bn_mode="running"),
}
FASTER = {  # the same for what saves time; a step of twice the length for half as many steps
    "full": {},
    "a quarter of the anchors": dict(anchor_stride=4),
    "10 steps": dict(steps=10, learning_rate=0.025),
    "5 steps": dict(steps=5, learning_rate=0.05),
    "fast": dict(preset="fast"),
}
UNIT = dict(preset="clean", normalise_compare=True)
TEN = UNIT | dict(steps=10, learning_rate=0.025, anchor_stride=4)
HARD = TEN | dict(triplet_axis="hard")
DEFAULT = {  # the same for what MTMNet() does: one step after the other from the published method
    "full": {},
    "mended": dict(preset="clean"),
    "mended, unit vectors": UNIT,
    "mended, unit vectors, 10 steps": TEN,
    "heads, hard triplet": HARD,
    "heads, hard triplet, no contrast": HARD | dict(contrast=0.0),
    "frozen features alone": dict(preset="instant", share=0.0),
    "both starts": dict(preset="self-support", share=0.0),
    "frozen features, corrected": dict(preset="instant"),
    "heads, corrected": dict(preset="self-support", starts="heads"),
    "self-support": dict(preset="self-support"),
    "self-support, triplet in space": dict(preset="self-support", triplet_axis="space"),
    "self-support, no triplet": dict(preset="self-support", triplet=0.0),
    "self-support, with contrast": dict(preset="self-support", contrast=1.0, anchor_stride=4),
    "self-support, half everywhere": dict(preset="self-support", gate=1e9, share=1.0),
    "self-support, without neighbourhood": dict(preset="self-support", context=0.0),
    "self-support, four views": dict(preset="self-support", views=4),
    "self-support, shears up to 40°": dict(preset="self-support", shear=40),
    "self-support, mirrored": dict(preset="self-support", tried="mirrored"),
    "self-support, CRF": dict(preset="self-support", postprocess="always"),
}


class Mirrored(MTMNet):
    "Each score map averaged with that of the mirror image: test-time averaging."
    def predict(self, images):
        one, other = (super(Mirrored, self).predict(seen) for seen in (images, images.flip(-1)))
        score = (one.score + other.score.flip(-1))/2
        return replace(one, score=score, mask=binarise(score, one.threshold))


TRIED = {"mirrored": Mirrored}           # what was tried and is no part of the package
KEPT = 200           # images whose maps are kept: 7 GB with ResNet-50 at 400²
STUDIES = {"ablation": VARIANTS, "fast": FASTER, "default": DEFAULT}     # each is stored in a file of its name


def frozen(name: str, weights: str | None, stages=None):
    "A backbone that remembers: variants and seeds all look at the same few hundred images."
    place, weights = BACKBONES.get(name, (name, weights))
    return CachedBackbone(backbone(here(place), here(weights) if name in BACKBONES else weights, stages), at_most=KEPT)


def measure(out: Path, nets: dict, builds: dict, shots: int, image_size: int, seeds: list[int], threads: int):
    "Run what is missing: set by set, all seeds and variants of a set while its images are remembered."
    for name in SETS:
        episodes = real_episodes(name, shots, image_size)
        for seed in seeds:
            for variant, build in builds.items():
                run_once(folder(out, variant, name, seed), build, episodes, seeds=(seed,), threads=threads, progress=False)
                print(f"seed {seed}, {name}: {variant}", flush=True)
        for net in nets.values(): net.kept.clear()


def folder(out: Path, variant: str, name: str, seed: int) -> Path: return out/f"{name}_seed{seed}_{variant.replace(' ', '_')}"


def evaluate(rows: dict, seeds: list[int]) -> tuple[list[dict], list[dict]]:
    "Scores by set, and paired differences from the full method by set and on the mean of the sets."
    scores, differences = [], []
    for variant in dict.fromkeys(variant for variant, _ in rows):
        for name in SETS:
            s = summarise(rows[variant, name])
            low, high = s["miou_interval"]
            scores.append(dict(variant=variant, set=name, miou=s["miou"], low=low, high=high, fb_iou=s["fb_iou"]))
        if variant == "full": continue
        for name in (*SETS, "mean"):
            pairs = [(rows[variant, n], rows["full", n]) for n in (SETS if name == "mean" else (name,))]
            d = mean_difference(pairs)
            low, high = d["interval"]
            by_seed = [mean_difference([[of_seed(run, seed) for run in pair] for pair in pairs], draws=1)["difference"] for seed in seeds]
            differences.append(dict(variant=variant, set=name, difference=d["difference"], low=low, high=high, by_seed=by_seed))
    return scores, differences


def expectations(rows: dict) -> list[dict]:
    "True and expected IoU of every episode, in percent, of those variants that expect something."
    whole = lambda some, column: [round(row[column]) for row in some]
    return [dict(variant=variant, set=name, iou=whole(some, "iou"), expected=whole(some, "expected_iou"))
            for (variant, name), some in rows.items() if some[0]["expected_iou"] is not None]


def of_seed(rows: list[dict], seed: int) -> list[dict]: return [row for row in rows if row["seed"] == seed]


def lines(rows: list[dict]) -> str:
    "One row a line, rounded, so that the file stays small and its changes can be read."
    def short(value):
        if isinstance(value, list): return [short(v) for v in value]
        return round(value, 2) if isinstance(value, float) else value
    return ",\n".join("  " + json.dumps({key: short(value) for key, value in row.items()}) for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="ablation", choices=STUDIES)
    parser.add_argument("--out", type=Path, help="default out/STUDY")
    parser.add_argument("--backbone", default="embedded", help=f"one of {', '.join(BACKBONES)}, or what cdfss benchmark takes")
    parser.add_argument("--weights", default="auto", help="for a backbone that is not in this list")
    parser.add_argument("--image-size", type=int, default=400)
    parser.add_argument("--shots", type=int, default=1, help="1 or 5, as there are manifests")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--variants", help="some of them, separated by commas; default all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--store", nargs="?", const="", metavar="NAME", help="write benchmarks/NAME.json, by default the study's name")
    arguments = parser.parse_args()
    need_images()
    set_threads(arguments.threads)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]

    nets = {"all": frozen(arguments.backbone, arguments.weights)}
    study, extra = STUDIES[arguments.study], arguments.study == "ablation"
    for stage in nets["all"].stages or () if extra else (): nets[stage] = frozen(arguments.backbone, arguments.weights, (stage,))
    def mtmnet(net, options):
        options = COMMON | options
        method = TRIED.get(options.pop("tried", None), MTMNet)
        return lambda seed: method(nets[net], seed=seed, **options)
    builds = {variant: mtmnet("all", options) for variant, options in study.items()}
    builds |= {f"only {stage}": mtmnet(stage, {}) for stage in nets if stage != "all"}
    if extra: builds["raw"] = lambda seed: build_method("raw", backbone=nets["all"], seed=seed)
    if arguments.variants:
        asked = ["full", *arguments.variants.split(",")]
        for variant in asked:
            if variant not in builds: raise SystemExit(str(unknown_name("variant", variant, builds)))
        builds = {variant: build for variant, build in builds.items() if variant in asked}

    few = "" if arguments.shots == 1 else f"_{arguments.shots}shot"
    out = (arguments.out or Path("out")/arguments.study)/f"{arguments.backbone}_{arguments.image_size}{few}".replace("/", "_").replace(":", "_")
    measure(out, nets, builds, arguments.shots, arguments.image_size, seeds, arguments.threads)
    read = lambda variant, name: [row for seed in seeds for row in read_rows(folder(out, variant, name, seed))]
    rows = {(variant, name): read(variant, name) for variant in builds for name in SETS}
    scores, differences = evaluate(rows, seeds)
    for d in differences:
        if d["set"] == "mean": print("{variant:26s} {difference:+6.2f} [{low:+6.2f}, {high:+6.2f}]".format(**d))
    if arguments.store is None: return
    command = [f"python benchmarks/ablation.py --store {arguments.store}".strip(), f"--study {arguments.study}", f"--backbone {arguments.backbone}",
               f"--image-size {arguments.image_size}", f"--shots {arguments.shots}", f"--seeds {arguments.seeds}"]
    if arguments.variants: command.append(f'--variants "{arguments.variants}"')
    about = dict(command=" ".join(command), method="mtmnet", options=COMMON, backbone=arguments.backbone,
                 weights_sha256=nets["all"].weights_sha256, adapt="first-episode", image_size=arguments.image_size, shots=arguments.shots,
                 episodes_a_set=len(rows["full", SETS[0]])//len(seeds), seeds=seeds, threads=arguments.threads, versions=versions(),
                 variants={name: options for name, options in study.items() if name in builds})
    head = json.dumps(about, indent=1)[:-2]
    text = f'{head},\n "scores": [\n{lines(scores)}\n ],\n "differences": [\n{lines(differences)}\n ],\n "expected": [\n{lines(expectations(rows))}\n ]\n}}\n'
    (Path(__file__).parent/f"{arguments.store or arguments.study}.json").write_text(text)


if __name__ == "__main__": main()
