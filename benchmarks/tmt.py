"""TMT, reconstructed, against the same vision transformer with plain attention: drawn streets in three looks, every look to every other.

    python benchmarks/tmt.py drawn --out out/tmt              run what is missing, then print the tables
    python benchmarks/tmt.py drawn --out out/tmt --store      … and store them in benchmarks/tmt.json
    python benchmarks/tmt.py drawn --seeds 10 --domain-weight 0.1    another seed, another weight: how the settings were chosen

It can be stopped at any time, also by kill -9, and goes on from its checkpoints. Two tasks: a few labelled target images, or many without labels.
All variants of a seed and a source start from the same source weights and see the same batches.
"""
import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from cdfss.core import atomic_path, set_threads, torch_rng
from cdfss.data.domains import Domain
from cdfss.data.driving import STREETS_CLASSES, drawn_streets
from cdfss.evaluate.benchmark import versions
from cdfss.evaluate.domains import domain_matrix, matrix_table, off_diagonal_mean, score_domain, seed_table
from cdfss.methods.tmt import PLAIN, TMT
from cdfss.model.vit import ViTSize

LOOKS = ("gta5", "synthia", "cityscapes")
SIZE, STRENGTH, TRAIN, TEST, LABELLED = (64, 128), 1.0, 100, 20, 3
NETWORK = ViTSize(patch=8, width=64, depth=4, heads=4, hidden=192, grid=(8, 16))
OPTIONS = dict(preset="small", device="cpu", size=NETWORK, cell=2, guided_blocks=2, source_steps=250, steps=60)
ABLATED = (("gta5", "cityscapes"),)                      # the pairs of the ablation
LOSSES = dict(beta=0.0, gamma=0.0)                       # both losses of TMT, plain attention
ABLATION = {                                             # what differs from TMT, in the task without labels
    "both losses, plain attention": LOSSES,
    "domain loss alone": dict(LOSSES, auxiliary_weight=0.0),
    "auxiliary loss alone": dict(LOSSES, domain_weight=0.0),
    "beta alone": dict(gamma=0.0),
    "gamma alone": dict(beta=0.0),
    "opposite sense": dict(beta=-0.5, gamma=-0.4),
    "transferability shuffled": {},
}
TASKS = {"few labels": dict(target_labels=True), "no labels": dict(target_labels=False)}


def streets(look: str, count: int, seed: int, folder: Path) -> Domain:
    "Drawn once, then read from a file."
    drawn, path = drawn_streets(look, count, seed=seed, strength=STRENGTH, size=SIZE, classes=STREETS_CLASSES), folder/f"{look} {seed}.pt"
    if not path.exists():
        with atomic_path(path) as partial_file: torch.save([(item.image, item.label.byte()) for item in drawn], partial_file)
    kept = [(image, label.long()) for image, label in torch.load(path)]
    return replace(drawn, read=kept.__getitem__)


def wanted(task: str, seed: int, domain: Domain) -> Domain:
    "What a method may see of a target."
    return domain.few(LABELLED, seed) if task == "few labels" else domain.unlabelled()


def shuffle(method: TMT) -> TMT:
    "Every region gets the transferability of another one. A mean over all regions, which the domain loss is, does not notice."
    def change(module, inputs, logits):
        order = torch.randperm(logits[0].numel(), generator=torch_rng("shuffled regions")).to(logits.device)
        return logits.flatten(1)[:, order].view_as(logits)
    method.network.domain.register_forward_hook(change)
    return method


def adapted(task: str, options: dict, name: str, method: TMT) -> TMT:
    "A variant, not yet adapted."
    method = method.variant(**TASKS[task], **options)
    return shuffle(method) if name == "transferability shuffled" else method


def run_seed(seed: int, out: Path, weight: float) -> dict:
    "All rows of one seed."
    set_threads(1)
    done = out/f"seed {seed}.json"
    if done.exists(): return json.loads(done.read_text())
    options = dict(OPTIONS, domain_weight=weight, seed=seed)
    images = out.parent/"images"                              # new ones to train on for every seed, the same to test on
    domains = {look: (streets(look, TRAIN, 1000*seed + 1, images), streets(look, TEST, 999, images)) for look in LOOKS}
    build = lambda source: TMT(folder=out/f"seed {seed}"/source, **options)
    say = lambda row: print(f"seed {seed}: {row['task']:24s} {row['variant']:30s} {row['miou']:5.1f}", flush=True)
    rows, ablation, inside = [], [], []
    for task in TASKS:
        variants = {f"{task}, {name}": partial(adapted, task, change, name) for name, change in {"plain": PLAIN, "TMT": {}}.items()}
        rows += [row | {"seed": seed, "labels": task} for row in domain_matrix(build, domains, variants, partial(wanted, task, seed), say)]
    for look, (train, test) in domains.items():
        alone = TMT(folder=out/f"seed {seed}"/f"{look} alone", **options | PLAIN | dict(source_steps=options["steps"])).fit_source(train.few(LABELLED, seed))
        row = dict(task=f"→ {look}", source="none", target=look, variant="target alone", miou=score_domain(alone, test, 8).miou)
        say(row)
        rows.append(row | {"seed": seed, "labels": "few labels"})
    for source, target in ABLATED:
        fitted = build(source).fit_source(domains[source][0])
        for name, change in {"plain": PLAIN, "TMT": {}, **ABLATION}.items():
            method = adapted("no labels", change, name, fitted)
            method.folder = fitted.folder/f"no labels, {name} to {target}"
            method.adapt(wanted("no labels", seed, domains[target][0]), domains[source][0])
            row = dict(task=f"{source} → {target}", variant=name, seed=seed, miou=score_domain(method, domains[target][1], 8).miou)
            say(row)
            ablation.append(row)
            if name == "TMT": inside.append(dict(task=row["task"], seed=seed, **look_inside(method, domains[source][1], domains[target][1])))
    found = dict(rows=rows, ablation=ablation, inside=inside)
    with atomic_path(done) as partial_file: partial_file.write_text(json.dumps(found))
    return found


@torch.no_grad()
def look_inside(method: TMT, source: Domain, target: Domain) -> dict:
    "What the weights of the keys are made of, and what they change."
    net, batch = method.network.eval(), lambda domain: torch.stack([item.image for item in domain])
    there, here = net.look(batch(target)), net.look(batch(source))
    patch, labels = net.vit.size.patch, torch.stack([item.label for item in target])
    wrong = ((there.logits.argmax(1) != labels) & (labels != 255)).float()
    wrong = F.avg_pool2d(wrong[:, None], patch)[:, 0].flatten()                              # the share of wrong pixels of every token
    correlation = lambda values: torch.corrcoef(torch.stack([values.flatten(), wrong]))[0, 1].item()
    block, tokens = net.vit.blocks[net.first], there.tokens
    query, key, _ = block.attention.split(block.norm1(tokens))
    scores = query @ key.mT/query.shape[-1]**.5
    plain, moved = scores.softmax(-1), (scores + there.bias[:, None, None]).softmax(-1)
    off, uniform = method.variant(beta=0.0, gamma=0.0), method.variant()
    for one in uniform.network.vit.blocks:                                                   # queries of zero: every key the same
        one.attention.qkv.weight[:tokens.shape[-1]] = 0
        one.attention.qkv.bias[:tokens.shape[-1]] = 0
    changed = (off.network.look(batch(target)).logits.argmax(1) != there.logits.argmax(1)).float().mean()
    score = lambda one: score_domain(one, target, 8).miou
    return dict(T=there.transferability.mean().item(), T_spread=there.transferability.std().item(), T_source=here.transferability.mean().item(),
                U=there.uncertainty.mean().item(), U_spread=there.uncertainty.std().item(),
                T_and_error=correlation(there.transferability), U_and_error=correlation(there.uncertainty),
                domain_right=(((here.domain > 0).float().mean() + (there.domain < 0).float().mean())/2).item(),
                weight_spread=(there.bias[:, 1:].exp().std()/there.bias[:, 1:].exp().mean()).item(),
                attention_moved=((plain - moved).abs().sum(-1)/2).mean().item(),             # total variation, mean over tokens and heads
                attention_uneven=((plain - 1/plain.shape[-1]).abs().sum(-1)/2).mean().item(),
                pixels_changed=100*changed.item(), miou=score(method), miou_without_weights=score(off), miou_uniform_attention=score(uniform))


def rounded(row: dict) -> dict: return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}


def lines(rows: list[dict]) -> str:
    "One row a line, so that the changes of the file can be read."
    return ",\n".join("  " + json.dumps(rounded(row), ensure_ascii=False) for row in rows)


def gains(rows: list[dict], base: str, keep: tuple[str, ...]) -> list[dict]:
    "For every pair and for the mean of the pairs: the gain over a base, with its interval over seeds."
    rows = [row for row in rows if row["variant"] in keep]
    cells = {(row["variant"], row["seed"]): [] for row in rows}
    for row in rows: cells[row["variant"], row["seed"]].append(row["miou"])
    means = [dict(task="mean", variant=variant, seed=seed, miou=sum(found)/len(found)) for (variant, seed), found in cells.items()]
    return seed_table([*rows, *means], base)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="drawn", choices=["drawn"])
    parser.add_argument("--out", type=Path, default=Path("out/tmt"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--workers", type=int, default=2, help="processes, one a seed, each with one thread")
    parser.add_argument("--domain-weight", type=float, default=0.3)
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    out = arguments.out/f"weight {arguments.domain_weight:g}"
    with ProcessPoolExecutor(arguments.workers) as pool:
        found = list(pool.map(partial(run_seed, out=out, weight=arguments.domain_weight), seeds))
    rows, ablation, inside = (sum((each[part] for each in found), []) for part in ("rows", "ablation", "inside"))

    tables = {}
    for task in TASKS:
        some = [row for row in rows if row["labels"] == task]
        names = ("source only", f"{task}, plain", f"{task}, TMT")
        tables[task] = dict(gains=gains(some, names[1], names), matrix={name: matrix_table(some, name) for name in names},
                            mean={name: off_diagonal_mean(some, name) for name in names})
    table = gains(ablation, "both losses, plain attention", ("plain", "TMT", *ABLATION))
    for row in [row for task in TASKS for row in tables[task]["gains"]] + table:
        gain = "" if row["gain"] is None else "{gain:+6.2f} [{low:+6.2f}, {high:+6.2f}]".format(**row)
        print(f"{row['task']:24s} {row['variant']:30s} {row['mIoU']:5.1f} {gain}")
    if not arguments.store: return
    about = dict(command=f"python benchmarks/tmt.py drawn --seeds {arguments.seeds} --domain-weight {arguments.domain_weight:g} --store",
                 reconstructed=True, looks=LOOKS, strength=STRENGTH, size=SIZE, classes=STREETS_CLASSES, train=TRAIN, test=TEST, labelled=LABELLED,
                 seeds=seeds, config=TMT(**dict(OPTIONS, domain_weight=arguments.domain_weight)).describe()["config"], versions=versions(),
                 ablation_variants=ABLATION, means={task: rounded(tables[task]["mean"]) for task in TASKS},
                 matrices={name: [rounded(row) for row in matrix] for task in TASKS for name, matrix in tables[task]["matrix"].items()})
    parts = {"rows": rows, "gains": [row | {"labels": task} for task in TASKS for row in tables[task]["gains"]],
             "ablation": ablation, "ablation_gains": table, "inside": inside}
    head = json.dumps(about, indent=1, ensure_ascii=False)[:-2]
    text = head + "".join(f',\n "{name}": [\n{lines(part)}\n ]' for name, part in parts.items()) + "\n}\n"
    (Path(__file__).parent/"tmt.json").write_text(text)


if __name__ == "__main__": main()
