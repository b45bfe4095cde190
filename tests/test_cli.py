"The command line as a person uses it: exit status, what is printed, what is on the disk afterwards."
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cdfss.app.cli import main
from cdfss.core import CdfssError
from cdfss.data.episodes import sample_manifest
from cdfss.data.readers import open_dataset
from cdfss.data.samples import sample_root
from cdfss.evaluate.benchmark import read_rows

QUICK = ["--method", "prototype", "--device", "cpu", "--threads", "1"]
CELLS = ["--dataset", "wbc", "--samples", "--episodes", "2", "--image-size", "64"]


def cdfss(*args):
    "Run a command in this process."
    return CliRunner().invoke(main, [str(arg) for arg in args])


def succeed(*args):
    result = cdfss(*args)
    assert result.exit_code == 0, result.output
    return result


def refuse(*args) -> str:
    "Run a command that must end with status 2 and one line; return the line."
    result = cdfss(*args)
    assert result.exit_code == 2, (result.output, result.exception)
    errors = [line for line in result.stderr.splitlines() if not line.startswith(("support: ", "Note: "))]
    assert errors[0].startswith("Error: "), result.stderr
    assert all(line.startswith("  line ") for line in errors[1:]), result.stderr         # a manifest's problems follow line by line
    return result.stderr


def start(*args) -> subprocess.Popen:
    "Start a command in a process of its own."
    command = [sys.executable, "-c", "from cdfss.app.cli import main; main()", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"))


def without_seconds(folder: Path) -> list[dict]:
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in read_rows(folder)]


def count_rows(folder: Path) -> int:
    file = folder/"rows.csv"
    return max(file.read_bytes().count(b"\n") - 1, 0) if file.exists() else 0


# ---------------------------------------------------------------- help and lists

def test_help_explains_every_command():
    text = succeed("--help").output
    for name in ("benchmark", "segment", "demo", "datasets", "prepare", "methods"):
        assert name in text
        assert "--help" in succeed(name, "--help").output
    assert "Examples:" in succeed("benchmark", "--help").output


def test_lists():
    assert {"wbc", "isic2018", "chest_xray", "fss1000", "deepglobe", "segpc2021", "folder"} <= set(succeed("datasets").output.split())
    assert {"mtmnet", "prototype", "raw", "linear", "embedded", "resnet50"} <= set(succeed("methods").output.split())


def test_importing_the_command_line_is_light():
    code = "import sys, cdfss.app.cli; print({'torch', 'torchvision', 'matplotlib', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


# ---------------------------------------------------------------- benchmark

@pytest.fixture(scope="module")
def skin(tmp_path_factory):
    "A manifest of drawn lesions and its root."
    reader = open_dataset("isic2018", sample_root("isic2018"))
    path = sample_manifest(reader, shots=1, episodes=24, seed=0, image_size=96).save(tmp_path_factory.mktemp("skin")/"skin.jsonl")
    return ["benchmark", "--manifest", path, "--root", reader.root, *QUICK]


def test_killed_and_resumed_gives_the_undisturbed_rows(skin, tmp_path):
    succeed(*skin, "--seeds", "3,4", "--out", tmp_path/"whole")
    process = start(*skin, "--seeds", "3,4", "--out", tmp_path/"killed")
    try:
        while count_rows(tmp_path/"killed") < 6:
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)                                              # it still holds the folder's lock
        assert "another benchmark is writing here" in refuse(*skin, "--seeds", "3,4", "--out", tmp_path/"killed", "--resume")
    finally: process.send_signal(signal.SIGKILL); process.communicate()
    before = count_rows(tmp_path/"killed")
    assert process.returncode == -signal.SIGKILL and 6 <= before < 48
    with open(tmp_path/"killed"/"rows.csv", "ab") as file: file.write(b"77,0,nev")      # as if killed in the middle of a line
    succeed(*skin, "--seeds", "3,4", "--out", tmp_path/"killed", "--resume")
    assert without_seconds(tmp_path/"killed") == without_seconds(tmp_path/"whole")
    whole, killed = (json.loads((tmp_path/name/"summary.json").read_text()) for name in ("whole", "killed"))
    for key in ("miou", "fb_iou", "miou_interval", "fb_iou_interval", "episodes", "manifests"): assert whole[key] == killed[key]


def test_summary_says_what_was_run(skin, tmp_path):
    output = succeed(*skin, "--image-size", 64, "--out", tmp_path/"run").stdout
    summary = json.loads((tmp_path/"run"/"summary.json").read_text())
    assert f"{summary['miou']:.1f}" in output and "95 % interval" in output
    assert {"miou", "fb_iou", "miou_interval", "fb_iou_interval", "seconds_adapt", "seconds_predict", "episodes", "by_seed", "by_class",
            "versions", "device", "threads", "method", "preset", "adapt", "weights_sha256", "manifests", "image_size", "shots",
            "dataset"} <= set(summary)
    assert {"cdfss", "torch", "torchvision", "numpy", "python"} == set(summary["versions"])
    assert (summary["method"], summary["image_size"], summary["threads"], summary["episodes"]) == ("prototype", 64, 1, 24)
    with open(tmp_path/"run"/"rows.csv") as file: header = next(csv.reader(file))
    assert header == ["episode", "class_id", "class", "query", "shots", "seed", "inter_fg", "union_fg", "inter_bg", "union_bg", "iou",
                      "threshold", "postprocessed", "seconds_adapt", "seconds_predict", "expected_iou"]
    again = [*skin, "--image-size", 64, "--out", tmp_path/"run"]
    assert "the folder exists" in refuse(*again)
    assert "image_size was 64 and is now 96" in refuse(*skin, "--out", tmp_path/"run", "--resume")
    assert "adapt was 'first-episode'" in refuse(*again, "--resume", "--adapt", "every-episode")
    assert "method was 'prototype' and is now 'raw'" in refuse(*again, "--resume", "--method", "raw")


def test_sampled_episodes_differ_by_seed(tmp_path):
    succeed("benchmark", *CELLS, *QUICK, "--episodes", 3, "--shots", 2, "--protocol", "clean", "--seeds", "0,1", "--out", tmp_path/"run")
    rows = read_rows(tmp_path/"run")
    assert len(rows) == 6 and {row["shots"] for row in rows} == {2}
    assert [row["query"] for row in rows[:3]] != [row["query"] for row in rows[3:]]
    assert {"manifest_seed0.jsonl", "manifest_seed1.jsonl"} <= {path.name for path in (tmp_path/"run").iterdir()}


def test_a_backbone_of_ones_own(tmp_path):
    (tmp_path/"own.py").write_text("import torch\n\ndef tiny(weights=None): return torch.nn.Conv2d(3, 8, 3, stride=8, padding=1)\n")
    run = ["benchmark", *CELLS, *QUICK, "--weights", "none", "--out", tmp_path/"run"]
    assert "no_such" in refuse(*run, "--backbone", f"{tmp_path}/own.py:no_such")
    succeed(*run, "--backbone", f"{tmp_path}/own.py:tiny")


MISTAKES = {
    "unknown data set": (["--dataset", "isic2081", "--samples"], "Did you mean isic2018"),
    "unknown method": (["--dataset", "wbc", "--samples", "--method", "protoype"], "Did you mean prototype"),
    "unknown backbone": (["--dataset", "wbc", "--samples", "--backbone", "resnet51"], "resnet50"),
    "unknown preset": (["--dataset", "wbc", "--samples", "--method", "mtmnet", "--preset", "referense"], "reference"),
    "unknown setting": (["--dataset", "wbc", "--samples", "--method", "prototype", "--set", "no_such=1"], "no_such"),
    "unknown option": (["--dataset", "wbc", "--samples", "--protocl", "clean"], "--protocol"),
    "neither manifest nor data set": ([], "either --manifest or --dataset"),
    "no root": (["--dataset", "wbc"], "either --root or --samples"),
    "root missing": (["--dataset", "wbc", "--root", "no/such/folder"], "no such folder"),
    "manifest missing": (["--manifest", "no.jsonl", "--root", "."], "no such file"),
    "zero shots": (["--dataset", "wbc", "--samples", "--shots", "0"], "--shots"),
    "too many shots": (["--dataset", "wbc", "--samples", "--shots", "900"], "fewer shots"),
    "weights missing": (["--dataset", "wbc", "--samples", "--weights", "no.pth"], "no.pth"),
    "no such device": (["--dataset", "wbc", "--samples", "--device", "cuda:77"], "cuda:77"),
    "zero threads": (["--dataset", "wbc", "--samples", "--threads", "0"], "--threads"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_with_one_line_and_leave_nothing(mistake, tmp_path):
    args, says = MISTAKES[mistake]
    assert says in refuse("benchmark", "--image-size", 64, *args, "--out", tmp_path/"out")
    assert not (tmp_path/"out").exists()


def test_a_broken_manifest_is_listed_whole(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path/"a.png")
    Image.new("L", (20, 20)).save(tmp_path/"empty.png")
    Image.new("L", (10, 20), 255).save(tmp_path/"small.png")
    header = dict(cdfss_manifest=1, dataset="own", shots=1, seed=0, image_size=32)
    entry = {"class": "x", "class_id": 0, "query": ["a.png", "small.png"], "support": [["a.png", "empty.png"]]}
    missing, supportless = entry | {"query": ["gone.png", "empty.png"]}, entry | {"support": []}
    lines = [json.dumps(header), json.dumps(entry), "{", json.dumps(missing), json.dumps(supportless)]
    (tmp_path/"m.jsonl").write_text("\n".join(lines) + "\n")
    said = refuse("benchmark", "--manifest", tmp_path/"m.jsonl", "--root", tmp_path, *QUICK, "--out", tmp_path/"out")
    assert "line 3" in said and "line 5" in said
    assert not (tmp_path/"out").exists()
    (tmp_path/"m.jsonl").write_text("\n".join([lines[0], lines[1], lines[3]]) + "\n")
    said = refuse("benchmark", "--manifest", tmp_path/"m.jsonl", "--root", tmp_path, *QUICK, "--out", tmp_path/"out")
    for part in ("line 2", "line 3", "10×20", "empty", "gone.png"): assert part in said


def test_weights_with_nan_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file
    import cdfss
    state = load_file(Path(cdfss.__file__).parent/"weights"/"embedded.safetensors")
    next(value for value in state.values() if value.is_floating_point()).view(-1)[0] = torch.nan
    save_file(state, tmp_path/"nan.safetensors")
    refuse("benchmark", *CELLS, *QUICK, "--weights", tmp_path/"nan.safetensors", "--out", tmp_path/"out")
    assert not (tmp_path/"out").exists()


# ---------------------------------------------------------------- segment

@pytest.fixture
def own(tmp_path):
    "One labelled picture of a dark disc, and pictures of discs in every form that people have them in."
    y, x = np.mgrid[:90, :120]
    def disc(cx, cy, r): return (x - cx) ** 2 + (y - cy) ** 2 < r * r
    def picture(mask): return np.where(mask[..., None], (90, 40, 110), (225, 215, 220)).astype(np.uint8)
    mask = disc(50, 40, 22)
    Image.fromarray(picture(mask)).save(tmp_path/"support.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path/"support_mask.png")
    new = picture(disc(70, 50, 25))
    for folder in ("a", "b"): (tmp_path/folder).mkdir()
    Image.fromarray(new).save(tmp_path/"a"/"1.png")
    Image.fromarray(new).save(tmp_path/"b"/"1.jpg")                                             # the same stem again
    Image.fromarray(new).convert("RGBA").save(tmp_path/"b"/"alpha.png")
    Image.fromarray(new).convert("L").save(tmp_path/"b"/"grey.png")
    Image.fromarray(new[..., 1].astype(np.uint16) * 16).save(tmp_path/"b"/"sixteen.png")
    Image.new("RGB", (1, 1), (90, 40, 110)).save(tmp_path/"b"/"pixel.png")
    return tmp_path


def segment(folder, *more, **changes):
    options = {"--support-images": [folder/"support.png"], "--support-masks": [folder/"support_mask.png"]}
    options |= {"--images": [folder/"a"], "--out": [folder/"out"]}
    options |= {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    return ["segment", *QUICK, "--image-size", 96, *[part for name, values in options.items() for part in (name, *values)], *more]


def test_segment_says_how_far_it_is(own):
    for number in range(2, 23): Image.open(own/"a"/"1.png").save(own/"a"/f"{number}.png")
    told = [line for line in succeed(*segment(own)).stderr.splitlines() if line.endswith(" images")]
    assert told == [f"{number}/22 images" for number in range(2, 23, 2)]


def test_segment_writes_masks_at_the_images_own_size(own):
    succeed(*segment(own, "--scores", "--overlays", images=[own/"a", own/"b"]))
    names = ["1", "1_2", "alpha", "grey", "pixel", "sixteen"]
    for folder in ("masks", "scores", "overlays"): assert sorted(p.stem for p in (own/"out"/folder).iterdir()) == names
    assert sorted(p.name for p in (own/"out").iterdir()) == ["areas.csv", "masks", "overlays", "scores"]
    with open(own/"out"/"areas.csv", newline="") as file: rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        mask = Image.open(own/"out"/row["mask"])
        assert mask.mode == "L" and mask.format == "PNG"
        assert mask.size == Image.open(row["image"]).size == (int(row["width"]), int(row["height"]))
        pixels = np.asarray(mask)
        assert set(np.unique(pixels)) <= {0, 255}
        assert float(row["area_fraction"]) == pytest.approx((pixels > 0).mean(), abs=1e-6)
    y, x = np.mgrid[:90, :120]
    truth, mask = (x - 70) ** 2 + (y - 50) ** 2 < 625, np.asarray(Image.open(own/"out"/"masks"/"1.png")) > 0
    assert (truth & mask).sum() / (truth | mask).sum() > 0.4                                    # a disc of the support's colour is found


def test_segment_the_same_twice(own):
    for out in ("one", "two"): succeed(*segment(own, out=[own/out]))
    assert (own/"one"/"masks"/"1.png").read_bytes() == (own/"two"/"masks"/"1.png").read_bytes()


def test_segment_takes_several_supports_and_patterns(own):
    Image.open(own/"a"/"1.png").save(own/"second.png")
    Image.open(own/"support_mask.png").transpose(Image.Transpose.ROTATE_180).save(own/"second_mask.png")
    stderr = succeed(*segment(own, images=[f"{own}/b/*.png"], support_images=[own/"support.png", own/"second.png"],
                              support_masks=[own/"second_mask.png", own/"support_mask.png"])).stderr
    assert f"{own/'support.png'} with {own/'support_mask.png'}" in stderr
    assert len(list((own/"out"/"masks").iterdir())) == 4


def test_segment_refuses_what_cannot_be_done(own):
    Image.new("L", (120, 90), 0).save(own/"empty.png")
    Image.new("L", (120, 90), 255).save(own/"full.png")
    Image.new("L", (12, 9), 255).save(own/"small.png")
    (own/"broken").mkdir()
    Image.open(own/"a"/"1.png").save(own/"broken"/"1.png")
    (own/"broken"/"2.png").write_bytes(b"no image")
    for says, changes in {"empty": dict(support_masks=[own/"empty.png"]), "full": dict(support_masks=[own/"full.png"]),
                          "12×9": dict(support_masks=[own/"small.png"]),
                          "2 mask(s)": dict(support_masks=[own/"empty.png", own/"full.png"]),
                          "2.png": dict(images=[own/"broken"]), "no such file": dict(images=[own/"gone.png"]),
                          "already": dict(out=[own/"a"])}.items():
        assert says in refuse(*segment(own, **changes))
        assert not (own/"out").exists()
    assert "--images" in refuse("segment", "--support-images", own/"support.png", "--support-masks", own/"support_mask.png", "--out", own)


def test_segment_labels_several_classes(own):
    halves = np.asarray(Image.open(own/"support_mask.png")).astype(bool) * np.where(np.arange(120) < 50, 2, 7)
    Image.fromarray((halves + (halves == 0) * 5).astype(np.uint8)).save(own/"labels.png")          # 5 has no name: background
    succeed(*segment(own, "--overlays", images=[own/"a", own/"b"], support_masks=[own/"labels.png"], classes=["7=right", "2=left side"]))
    names = ["1", "1_2", "alpha", "grey", "pixel", "sixteen"]
    for folder in ("labels", "overlays"): assert sorted(p.stem for p in (own/"out"/folder).iterdir()) == names
    with open(own/"out"/"areas.csv", newline="") as file: rows = list(csv.DictReader(file))
    for row in rows:
        labels = Image.open(own/"out"/row["labels"])
        assert labels.mode == "P" and labels.size == Image.open(row["image"]).size == (int(row["width"]), int(row["height"]))
        assert set(np.unique(labels)) <= {0, 2, 7}
        for value, name in ((2, "left side"), (7, "right")):
            assert float(row[f"area_fraction_{name}"]) == pytest.approx((np.asarray(labels) == value).mean(), abs=1e-6)
    again = segment(own, images=[own/"a"], support_images=[own/"a"/"1.png"], support_masks=[own/"out"/"labels"/"1.png"], out=[own/"again"])
    succeed(*again, "--classes", "2=left side", "7=right")                                          # what was written can be a support
    assert "the label map is 12×9" in refuse(*segment(own, support_masks=[_small(own)], classes=["2=left"], out=[own/"new"]))
    assert "no image shows 'far'" in refuse(*segment(own, support_masks=[own/"labels.png"], classes=["2=left", "9=far"], out=[own/"new"]))
    assert not (own/"new").exists()


@pytest.mark.parametrize("adapt", ["first-episode", "every-episode"])
def test_one_class_on_the_command_line_is_the_mask(own, adapt):
    succeed(*segment(own, "--adapt", adapt, images=[own/"a", own/"b"]))
    succeed(*segment(own, "--adapt", adapt, "--classes", "255=disc", images=[own/"a", own/"b"], out=[own/"labelled"]))
    for mask in (own/"out"/"masks").iterdir():
        assert np.array_equal(np.asarray(Image.open(mask)), np.asarray(Image.open(own/"labelled"/"labels"/mask.name)))


def test_segment_writes_masks_over_pictures_as_they_are_shown(own):
    exif = Image.Exif(); exif[0x0112] = 6
    picture = Image.open(own/"a"/"1.png")
    (own/"kinds").mkdir()
    picture.save(own/"kinds"/"turned.jpg", exif=exif, quality=95)
    picture.convert("CMYK").save(own/"kinds"/"cmyk.tif")
    picture.quantize(64).save(own/"kinds"/"palette.png")
    pages = [Image.fromarray(np.asarray(picture)[..., c].astype(np.uint16)*200) for c in range(3)]
    pages[0].save(own/"kinds"/"stack.tif", save_all=True, append_images=pages[1:])
    succeed(*segment(own, "--overlays", images=[own/"kinds"]))
    sizes = {path.stem: Image.open(path).size for path in (own/"out"/"masks").iterdir()}
    stack = {f"stack_p00{page}": (120, 90) for page in (1, 2, 3)}
    assert sizes == {"turned": (90, 120), "cmyk": (120, 90), "palette": (120, 90)} | stack
    assert sizes == {path.stem: Image.open(path).size for path in (own/"out"/"overlays").iterdir()}
    with open(own/"out"/"areas.csv", newline="") as file: assert {row["image"].rpartition("#")[2] for row in csv.DictReader(file)} >= {"p001", "p002", "p003"}
    succeed(*segment(own, images=[own/"a"], out=[own/"straight"]))
    upright = np.asarray(Image.open(own/"out"/"masks"/"turned.png")) > 0
    straight = np.rot90(np.asarray(Image.open(own/"straight"/"masks"/"1.png")) > 0, -1)
    assert (upright & straight).sum()/(upright | straight).sum() > 0.8                           # it lies where a viewer shows the disc
    again = segment(own, images=[own/"a"], support_images=[own/"kinds"/"turned.jpg"], support_masks=[own/"out"/"masks"/"turned.png"], out=[own/"again"])
    succeed(*again)                                                                             # and is a mask of the picture as it is shown
    assert "as it is shown" in refuse(*segment(own, support_images=[own/"kinds"/"turned.jpg"], support_masks=[own/"support_mask.png"], out=[own/"no"]))


def test_segment_learns_from_corrected_masks(own):
    succeed(*segment(own, images=[own/"a", own/"b"]))
    (own/"fixed").mkdir()
    corrected = Image.fromarray((np.asarray(Image.open(own/"out"/"masks"/"grey.png")) > 0)[:, ::-1].astype(np.uint8)*255)
    corrected.save(own/"fixed"/"grey.png")
    Image.new("L", (120, 90)).save(own/"fixed"/"sixteen.png")                                   # nothing there: nothing to learn, but an answer
    succeed(*segment(own, "--corrections", own/"fixed", images=[own/"a", own/"b"], out=[own/"second"]))
    with open(own/"second"/"areas.csv", newline="") as file: given = {row["mask"]: row["given"] for row in csv.DictReader(file)}
    assert [name for name, one in given.items() if one == "1"] == ["masks/grey.png", "masks/sixteen.png"]
    assert np.array_equal(np.asarray(Image.open(own/"second"/"masks"/"grey.png")), np.asarray(corrected))
    assert (own/"second"/"masks"/"1.png").read_bytes() != (own/"out"/"masks"/"1.png").read_bytes()
    corrected.save(own/"fixed"/"nobody.png")
    assert "nobody.png: no image has the name" in refuse(*segment(own, "--corrections", own/"fixed", images=[own/"a", own/"b"], out=[own/"third"]))


@pytest.mark.parametrize("more", [[], ["--tile", 60], ["--classes", "255=disc", "128=rim"]])
def test_a_saved_model_says_the_same_in_another_process(own, more):
    values = np.asarray(Image.open(own/"support_mask.png")).copy()
    values[20:40, 20:30] = 128
    Image.fromarray(values).save(own/"support_mask.png")
    task = segment(own, *more, images=[own/"a", own/"b"])
    succeed(*task[:1], *(["--method", "mtmnet", "--preset", "self-support"] + QUICK[2:]), *task[1 + len(QUICK):], "--save", own/"model", *(["--scores"] if "--classes" not in more else []))
    later = ["segment", "--model", own/"model", *QUICK[2:], "--images", own/"a", own/"b", "--out", own/"later", *(["--scores"] if "--classes" not in more else [])]
    other = start(*later)
    assert other.wait(60) == 0, other.stderr.read()
    made = sorted(path.relative_to(own/"out") for path in (own/"out").rglob("*") if path.is_file())
    assert made == sorted(path.relative_to(own/"later") for path in (own/"later").rglob("*") if path.is_file())
    for name in made: assert (own/"out"/name).read_bytes() == (own/"later"/name).read_bytes(), name      # expected IoU and thresholds, too
    assert "already" in refuse(*segment(own, "--save", own/"model", out=[own/"new"]))


def _small(folder):
    Image.new("L", (12, 9), 2).save(folder/"small.png")
    return folder/"small.png"


# ---------------------------------------------------------------- demo

def test_demo_draws_a_picture_for_each_set_and_a_table(tmp_path):
    output = succeed("demo", "--out", tmp_path/"demo", "--episodes", 1, "--image-size", 64, *QUICK).stdout
    for name in ("deepglobe", "isic2018", "chest_xray", "fss1000", "wbc", "segpc2021"):
        assert Image.open(tmp_path/"demo"/f"{name}.png").width > 300
        assert f"\n{name} " in output
    assert "class mIoU" in output and "FB-IoU" in output and "seconds" in output


def test_mtmnet_runs_from_the_command_line(tmp_path):
    succeed("benchmark", *CELLS, *QUICK, "--method", "mtmnet", "--preset", "reference", "--postprocess", "off", "--out", tmp_path/"run")
    summary = json.loads((tmp_path/"run"/"summary.json").read_text())
    assert (summary["method"], summary["preset"], summary["adapt"]) == ("mtmnet", "reference", "first-episode")


def test_deterministic_holds_while_a_command_runs(tmp_path, monkeypatch):
    seen = []
    def look(*_, **__):
        seen.append(torch.are_deterministic_algorithms_enabled())
        raise CdfssError("enough seen")
    monkeypatch.setattr("cdfss.evaluate.benchmark.run_benchmark", look)
    for more in ([], ["--deterministic"]):
        assert "enough seen" in refuse("benchmark", "--dataset", "wbc", "--samples", "--episodes", 2, "--out", tmp_path/"run", *more)
    assert seen == [False, True] and not torch.are_deterministic_algorithms_enabled()
