"""What the measurements on real images share: where the images and the backbones are, and runs that go on where they stopped.

Images, manifests and weights lie below CDFSS_SHARED (by default shared/ beside the repository) and are not part of the repository.
"""
import json
from dataclasses import replace
from pathlib import Path

from cdfss.core import CdfssError, shared
from cdfss.data.episodes import Episodes
from cdfss.data.readers import open_manifest
from cdfss.evaluate.benchmark import run_benchmark

SETS = ("wbc", "isic2018", "chest_xray", "nuclei", "skin")
BACKBONES = {"resnet50v2": ("measure/pretrained.py:resnet50v2", "weights/resnet50v2_stem_to_layer3.pth"),
             "mobilenet_v2": ("mobilenet_v2", "weights/mobilenet_v2.pth"),
             "squeezenet1_1": ("squeezenet1_1", "weights/squeezenet1_1.pth"),
             "embedded": ("embedded", "embedded"),
             "resnet18_random": ("resnet18", None)}


def need_images():
    "End here, with a word on what to do, where the real images are not at hand."
    if shared("data", "manifests") is None: raise SystemExit(str(CdfssError("the real images are not here", where="CDFSS_SHARED")))


def here(name: str | None) -> str | None:
    "A name as it is; a path below the shared folder in full."
    if name is None or "/" not in name: return name
    path, *function = name.split(":")
    return ":".join([str(shared(*path.split("/"))), *function])


def real_episodes(name: str, shots: int = 1, image_size: int = 400):
    "The episodes of a set's manifest; at another size than its 400 the same images meet."
    episodes = open_manifest(shared("data", "manifests", f"{name}_{shots}shot.jsonl"), shared("data", name))
    return Episodes(replace(episodes.manifest, image_size=image_size), episodes.root, episodes.is_foreground, check=False)


def run_once(folder: Path, build, episodes, **options) -> dict:
    "Run or continue one benchmark; a finished one is only read."
    if (folder/"summary.json").exists(): return json.loads((folder/"summary.json").read_text())
    return run_benchmark(build, episodes, folder, resume=folder.exists(), **options)
