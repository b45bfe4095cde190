"""How far the score of a data set is from nothing: the support's masks pasted onto the query, which is never looked at.

    python benchmarks/pasted_masks.py            measure on the real images (seconds) and print the table
    python benchmarks/pasted_masks.py --store    … and store it in benchmarks/pasted_masks.json

The same episodes as `real_images.py`, so the two tables may stand beside each other. Needs the images and manifests below CDFSS_SHARED.
"""
import argparse
import json
from pathlib import Path

from common import SETS, need_images, real_episodes

from cdfss.evaluate.benchmark import summarise
from cdfss.metrics import overlap


def pasted_rows(episodes) -> list[dict]:
    "A row an episode: foreground is what at least half of the supports' masks call foreground."
    rows = []
    for episode in episodes:
        answer = episode.support.masks.mean(0) >= 0.5
        rows.append({"episode": episode.index, "class_id": episode.class_id, "class": episode.class_name, "query": episode.query_name,
                     "seed": 0, "seconds_adapt": 0., "seconds_predict": 0., **overlap(answer, episode.mask)._asdict()})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    need_images()
    table = []
    for name in SETS:
        for shots in (1, 5):
            episodes = real_episodes(name, shots)
            summary = summarise(pasted_rows(episodes), episodes.manifest.classes)
            low, high = summary["miou_interval"]
            foreground = 100*sum(episode.mask.mean().item() for episode in episodes)/len(episodes)
            table.append({"method": "pasted", "set": name, "shots": shots, "episodes": summary["episodes"], "miou": round(summary["miou"], 2),
                          "low": round(low, 2), "high": round(high, 2), "fb_iou": round(summary["fb_iou"], 2), "foreground": round(foreground, 1)})
            print("{set:11s} {shots}-shot: class mIoU {miou:6.2f} [{low:6.2f}, {high:6.2f}]  FB-IoU {fb_iou:6.2f}  "
                  "foreground of the queries {foreground:4.1f} %".format(**table[-1]), flush=True)
    if arguments.store: (Path(__file__).parent/"pasted_masks.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__": main()
