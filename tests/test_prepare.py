"""Preparing data sets: archives of drawn pictures under their real names, whole, damaged, dangerous, interrupted, and on a full disk."""
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdfss.core import CdfssError
from cdfss.data import prepare as module
from cdfss.data.driving import driving_root
from cdfss.data.episodes import Episodes, sample_manifest
from cdfss.data.images import read_mask_values
from cdfss.data.prepare import JOURNAL, LAND, RECIPES, REPORT, WORK, Journal, prepare
from cdfss.data.readers import open_dataset, open_manifest
from cdfss.data.samples import draw_tile, sample_root

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP"}


def picture(pixels, suffix: str) -> bytes:
    Image.fromarray(np.asarray(pixels)).save(file := io.BytesIO(), format=FORMATS[suffix])
    return file.getvalue()


def drawn(name: str, step: int = 8) -> dict[str, np.ndarray]:
    "The files of a drawn set, made small."
    root = sample_root(name)
    return {path.relative_to(root).as_posix(): np.array(Image.open(path))[::step, ::step] for path in sorted(root.rglob("*.*"))
            if path.suffix in FORMATS}


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items(): archive.writestr(name, data)
    return path


def unpacked(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path/name).parent.mkdir(parents=True, exist_ok=True)
        (path/name).write_bytes(data)
    return path


def tree(out: Path) -> dict[str, bytes]:
    "What was made; the report names the folder, and is left out."
    files = (file for file in sorted(out.rglob("*")) if file.is_file() and file.name != REPORT)
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


# ---------------------------------------------------------------- raw archives, named as the web gives them

def raw_deepglobe(raw: Path, photos: int = 2) -> Path:
    files = {"class_dict.csv": b"name,r,g,b\n", "valid/55_sat.jpg": picture(np.zeros((12, 12, 3), np.uint8), ".jpg")}
    for number in range(photos):
        pixels, land = (array[:252:2, :252:2] for array in draw_tile(0, 8*number))
        code = np.array(LAND)[land]
        files[f"train/{100 + number}_sat.jpg"] = picture(pixels, ".jpg")
        colours = np.stack([255*(code >> bit & 1) for bit in (2, 1, 0)], -1).astype(np.uint8)
        files[f"train/{100 + number}_mask.png"] = picture(colours, ".png")
    return zipped(raw/"archive.zip", files).parent


def raw_isic2018(raw: Path, count: int = 6) -> Path:
    images, masks, rows = {}, {}, ["ID,Class"]
    for name, pixels in drawn("isic2018").items():
        stem, group, number = Path(name).stem, int(Path(name).stem[9:10]), int(Path(name).stem[10:12])
        if number >= count: continue
        if name.endswith(".jpg"):
            images[f"ISIC2018_Task1-2_Training_Input/{stem}.jpg"] = picture(pixels, ".jpg")
            rows.append(f"{stem},{('nevus', 'melanoma', 'seborrheic keratosis')[group]}")
        else: masks[f"ISIC2018_Task1_Training_GroundTruth/{stem}.png"] = picture(pixels, ".png")
    images["ISIC2018_Task1-2_Training_Input/LICENSE.txt"] = b"text"
    zipped(raw/"ISIC2018_Task1-2_Validation_Input.zip", {"ISIC2018_Task1-2_Validation_Input/ISIC_0099999.jpg": b"not looked at"})
    zipped(raw/"ISIC2018_Task1-2_Training_Input.zip", images)
    zipped(raw/"ISIC2018_Task1_Training_GroundTruth.zip", masks)
    (raw/"class_id.csv").write_text("\n".join(rows) + "\n")
    return raw


def chest_pairs(count: int):
    files = drawn("chest_xray")
    for i in range(count):
        image, mask = (files[f"Lung Segmentation/{name}"] for name in (f"CXR_png/CXR_{i:04d}.png", f"masks/CXR_{i:04d}_mask.png"))
        yield i, picture(image, ".png"), mask


def raw_chest_xray(raw: Path, count: int = 6) -> Path:
    "Kaggle's: everything in one tree, Shenzhen with _mask and Montgomery without, and images without masks twice."
    home, files = "data/Lung Segmentation", {"data/Lung Segmentation/NLM-ChinaCXRSet-ReadMe.docx": b"text"}
    for i, image, mask in chest_pairs(count):
        stem = f"CHNCXR_{i + 1:04d}_0" if i % 2 else f"MCUCXR_{i + 1:04d}_1"
        files |= {f"{home}/CXR_png/{stem}.png": image, f"{home}/masks/{stem}{'_mask' if i % 2 else ''}.png": picture(mask, ".png")}
    files |= {f"{home}/CXR_png/CHNCXR_0500_1.png": image, f"{home}/test/CHNCXR_0500_1.png": image}
    return zipped(raw/"chest-xray-masks-and-labels.zip", files).parent


def raw_chest_of_the_library(raw: Path, count: int = 6) -> Path:
    "The library's: a mask a lung for Montgomery; Shenzhen's masks in an archive of their own."
    montgomery, china, masks = {}, {}, {}
    for i, image, mask in chest_pairs(count):
        if i % 2:
            china[f"ChinaSet_AllFiles/CXR_png/CHNCXR_{i:04d}_0.png"] = image
            masks[f"mask/CHNCXR_{i:04d}_0_mask.png"] = picture(mask, ".png")
            continue
        middle = mask.shape[1]//2
        for side, half in (("left", np.arange(mask.shape[1]) >= middle), ("right", np.arange(mask.shape[1]) < middle)):
            montgomery[f"MontgomerySet/ManualMask/{side}Mask/MCUCXR_{i:04d}_0.png"] = picture(mask*half, ".png")
        montgomery[f"MontgomerySet/CXR_png/MCUCXR_{i:04d}_0.png"] = image
    zipped(raw/"NLM-MontgomeryCXRSet.zip", montgomery)
    zipped(raw/"ChinaSet_AllFiles.zip", china)
    return zipped(raw/"mask.zip", masks).parent


def raw_fss1000(raw: Path) -> Path:
    files = {f"fewshot_data/fewshot_data/{name.partition('/')[2]}": picture(pixels, Path(name).suffix)
             for name, pixels in drawn("fss1000").items() if "apple" in name or "fish" in name}
    return zipped(raw/"fewshot_data.zip", files).parent


def raw_wbc(raw: Path, count: int = 6) -> Path:
    files = {f"segmentation_WBC-master/{name.partition('/')[2]}": picture(pixels, Path(name).suffix)
             for name, pixels in drawn("wbc").items() if int(Path(name).stem) <= count}
    return zipped(raw/"segmentation_WBC-master.zip", files | {"segmentation_WBC-master/readme.md": b"text"}).parent


def raw_segpc2021(raw: Path, count: int = 6) -> Path:
    "Archives in an archive; a mask a cell, some of them in three channels; the same number in two splits."
    files, splits = drawn("segpc2021"), {"train": {}, "validation": {}, "test": {}}
    for i in range(count):
        image, mask = (files[f"TCIA_SegPC/{folder}/{i + 1:03d}.png"] for folder in ("Images", "labels"))
        split, number = ("train", 100 + i) if i else ("validation", 101)
        splits[split][f"{split}/x/{number}.bmp"] = picture(image, ".bmp")
        for k, half in enumerate((np.arange(mask.shape[1]) < 15, np.arange(mask.shape[1]) >= 15), start=1):
            cell = mask*half
            splits[split][f"{split}/y/{number}_{k}.bmp"] = picture(np.stack([cell, 0*cell, 0*cell], -1) if i % 2 else cell, ".bmp")
    splits["test"]["test/x/900.bmp"] = picture(image, ".bmp")
    inner = {f"TCIA_SegPC_dataset/{split}.zip": zipped(raw/"inner.zip", files).read_bytes() for split, files in splits.items()}
    (raw/"inner.zip").unlink()
    return zipped(raw/"TCIA_SegPC_dataset.zip", inner).parent


TARGETS = {"deepglobe": raw_deepglobe, "isic2018": raw_isic2018, "chest_xray": raw_chest_xray, "fss1000": raw_fss1000, "wbc": raw_wbc,
           "segpc2021": raw_segpc2021}


@pytest.mark.parametrize("name", TARGETS)
def test_from_archives_to_an_episode(name, tmp_path):
    report = prepare(name, TARGETS[name](tmp_path/"raw"), tmp_path/"out")
    reader = open_dataset(name, tmp_path/"out")
    assert report.pairs == {class_name: len(reader.pairs(i)) for i, class_name in enumerate(reader.class_names)}
    expected = {"deepglobe": {"count", "no mask", "no manifest"}, "chest_xray": {"count", "no mask"}, "segpc2021": {"count", "no mask"}}
    assert {odd.kind for odd in report.odd} == expected.get(name, {"count"}), report.odd
    for k in (1,) if name == "deepglobe" else (1, 5):             # a few drawn tiles are too few for five shots
        episode = open_manifest(tmp_path/"out"/f"manifests/{name}_{k}shot.jsonl", tmp_path/"out", check=k == 1)[0]
        assert episode.mask.any() and episode.support.shots == k
    assert json.loads((tmp_path/"out"/REPORT).read_text())["sha256"] == report.sha256 and report.title in str(report)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"] and not (tmp_path/"out"/WORK).exists()
    before = tree(tmp_path/"out")
    assert prepare(name, tmp_path/"raw", tmp_path/"out") == report and tree(tmp_path/"out") == before


def test_deepglobe_is_cut_as_the_benchmark_is(tmp_path):
    prepare("deepglobe", raw_deepglobe(tmp_path/"raw"), tmp_path/"out", shots=())
    _, land = (array[:252:2, :252:2] for array in draw_tile(0, 0))
    seen = set()
    for i in range(6):
        for j in range(6):
            tile = land[21*i:21*i + 21, 21*j:21*j + 21]
            kinds, counts = np.unique(tile, return_counts=True)
            kept = len(kinds) > 1 and counts.min()/tile.size > 0.048
            for kind in range(6):
                file = tmp_path/"out"/f"{kind + 1}/test/groundtruth/100_sat_{i}{j}.png"
                assert file.exists() == (kept and kind in kinds)
                if file.exists():
                    assert (read_mask_values(file) == 255*(tile == kind)).all()
                    seen.add(kind)
    assert len(seen) > 1


def test_lungs_are_united(tmp_path):
    report = prepare("chest_xray", raw_chest_of_the_library(tmp_path/"raw"), tmp_path/"out", shots=())
    assert report.pairs == {"lung": 6}
    for i, _, mask in chest_pairs(6):
        stem = f"CHNCXR_{i:04d}_0_mask" if i % 2 else f"MCUCXR_{i:04d}_0"
        assert (read_mask_values(tmp_path/f"out/masks/{stem}.png") == mask).all()


def test_cells_are_merged(tmp_path):
    prepare("segpc2021", raw_segpc2021(tmp_path/"raw"), tmp_path/"out", shots=())
    files = drawn("segpc2021")
    for i in range(6):
        stem = {0: "validation_101", 1: "train_101"}.get(i, str(100 + i))
        assert (read_mask_values(tmp_path/f"out/labels/{stem}.png") == files[f"TCIA_SegPC/labels/{i + 1:03d}.png"]).all()
        assert (np.array(Image.open(tmp_path/f"out/Images/{stem}.png")) == files[f"TCIA_SegPC/Images/{i + 1:03d}.png"]).all()


def test_isic_needs_its_list(tmp_path):
    raw = raw_isic2018(tmp_path/"raw")
    (raw/"class_id.csv").unlink()
    with pytest.raises(CdfssError, match="nothing says which photo shows what.*class_id.csv"): prepare("isic2018", raw, tmp_path/"out")


def test_folders_links_and_prepared_sets_are_read_as_they_come(tmp_path):
    "The same files from a zip, from folders, and from what was prepared before; with hard links if asked for."
    with zipfile.ZipFile(raw_wbc(tmp_path/"raw")/"segmentation_WBC-master.zip") as archive: archive.extractall(tmp_path/"folders")
    first = prepare("wbc", tmp_path/"raw", tmp_path/"one")
    second = prepare("wbc", tmp_path/"folders", tmp_path/"two", link=True)
    assert first.sha256 == second.sha256 == prepare("wbc", tmp_path/"two", tmp_path/"three").sha256
    (tmp_path/"folders/segmentation_WBC-master/Dataset 1/001.bmp").chmod(0o600)
    assert prepare("wbc", tmp_path/"folders", tmp_path/"four", link=True).sha256 == first.sha256
    assert (tmp_path/"folders/segmentation_WBC-master/Dataset 1/001.bmp").stat().st_mode & 0o777 == 0o600
    assert os.path.samefile(tmp_path/"folders/segmentation_WBC-master/Dataset 1/001.bmp", tmp_path/"two/Dataset 1/001.bmp")
    prepare("deepglobe", raw_deepglobe(tmp_path/"satellite"), tmp_path/"tiles")
    shutil.rmtree(tmp_path/"satellite")
    again = prepare("deepglobe", tmp_path/"tiles", tmp_path/"more tiles", shots=())
    assert again.sha256 == json.loads((tmp_path/"tiles"/REPORT).read_text())["sha256"]


# ---------------------------------------------------------------- sources

def sources(name: str, raw: Path) -> Path:
    root = driving_root(name) if name in ("gta5", "synthia", "cityscapes") else sample_root(name)
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    some = lambda *parts: {path: data for path, data in files.items() if path.startswith(parts)}
    raw.mkdir()
    if name == "pascal5i":
        with tarfile.open(raw/"VOC2012.tar.gz", "w:gz") as archive:
            for path, data in some("JPEGImages", "ImageSets").items():
                entry = tarfile.TarInfo(f"VOCdevkit/VOC2012/{path}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        zipped(raw/"SegmentationClassAug.zip", some("SegmentationClassAug") | {"__MACOSX/SegmentationClassAug/._a.png": b"junk"})
    elif name == "coco20i":
        for part in ("train2014", "val2014", "annotations"): zipped(raw/f"{part}.zip", some(part))
    elif name == "gta5":
        for part in ("images", "labels"): zipped(raw/f"01_{part}.zip", some(part))
    elif name == "cityscapes":
        for part in ("leftImg8bit", "gtFine"): zipped(raw/f"{part}_trainvaltest.zip", some(part))
    elif name == "synthia":                                       # unrar writes names with backslashes into one folder
        unpacked(raw, {f"RAND_CITYSCAPES/{path}".replace("/", "\\"): data for path, data in files.items()})
    else: unpacked(raw/"SUIM", files)
    return raw


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - TARGETS.keys()))
def test_sources(name, tmp_path):
    report = prepare(name, sources(name, tmp_path/"raw"), tmp_path/"out", shots=(1,))
    assert sum(report.pairs.values()) > 5 and not report.unused
    assert {odd.kind for odd in report.odd} == {"count"}, report.odd
    if report.manifests: assert open_manifest(tmp_path/"out"/report.manifests[0], tmp_path/"out", check=False)[0].mask.any()
    else: assert name in ("gta5", "synthia", "cityscapes")


# ---------------------------------------------------------------- what goes wrong

def test_everything_odd_is_reported_and_left_out(tmp_path):
    files = {f"Dataset 1/{name[-7:]}": picture(pixels, Path(name).suffix) for name, pixels in drawn("wbc").items() if "Dataset 1" in name}
    grey = lambda value: picture(np.full((32, 32), value, np.uint8), ".png")
    line = lambda value, side: picture(np.eye(side, dtype=np.uint8)*value, ".png")
    files |= {"Dataset 1/002.png": grey(0), "Dataset 1/003.png": grey(255), "Dataset 1/004.bmp": b"no picture",
              "Dataset 1/005.png": line(255, 31), "Dataset 1/006.png": line(254, 32)}
    del files["Dataset 1/007.png"], files["Dataset 1/008.bmp"]
    zipped(tmp_path/"raw"/"a.zip", files)
    unpacked(tmp_path/"raw"/"b", {"Dataset 1/001.bmp": files["Dataset 1/001.bmp"], "notes/readme.txt": b""})
    report = prepare("wbc", tmp_path/"raw", tmp_path/"out", shots=())
    kinds = {odd.kind: odd for odd in report.odd}
    assert kinds.keys() == {"empty mask", "full mask", "unreadable", "size", "values", "no mask", "no image", "twice", "count"}
    assert kinds["size"].what == "the mask is 31×31 but its image 32×32 pixels" and kinds["unreadable"].file == "a.zip: Dataset 1/004.bmp"
    assert report.unused == {"b/notes/*.txt": 1} and report.pairs == {"cell": 12 - 6}
    assert sorted(p.name for p in (tmp_path/"out/Dataset 1").glob("*.bmp")) == [f"{i:03d}.bmp" for i in (1, 6, 9, 10, 11, 12)]


@pytest.mark.parametrize("name", ["../x.bmp", "Dataset 1/../../x.bmp", "/tmp/x.bmp", "C:\\x.bmp", "\\\\host\\x.bmp"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_outside_are_refused(name, kind, tmp_path):
    raw = raw_wbc(tmp_path/"raw")
    if kind == "zip": zipped(raw/"slip.zip", {name: b"x"})
    else:
        with tarfile.open(raw/"slip.tar", "w") as archive: archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(CdfssError, match=f"slip.{kind}: the archive has a file that would lie outside"): prepare("wbc", raw, tmp_path/"out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"] and tree(tmp_path/"out").keys() == {JOURNAL}


def test_a_class_cannot_lead_outside_either(tmp_path):
    "Names of FSS-1000's folders become parts of paths."
    files = {f"fewshot_data/x/..\\{number}.{suffix}": b"x" for number in (1, 2) for suffix in ("jpg", "png")}
    report = prepare("fss1000", zipped(tmp_path/"raw.zip", files), tmp_path/"out")
    assert report.files == 0 and {odd.kind for odd in report.odd} == {"unreadable", "count", "not readable"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw.zip"]


def test_links_in_archives_are_not_followed(tmp_path):
    secret = tmp_path/"secret.png"
    secret.write_bytes(picture(np.eye(32, dtype=np.uint8)*255, ".png"))
    with tarfile.open(raw_wbc(tmp_path/"raw")/"links.tar", "w") as archive:
        for target, name in ((str(secret), "Dataset 2/900.png"), ("/etc", "Dataset 2")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    report = prepare("wbc", tmp_path/"raw", tmp_path/"out", shots=())
    assert [odd.kind for odd in report.odd if odd.kind != "count"] == ["link", "link"] and not (tmp_path/"out/Dataset 2/900.png").exists()


def test_a_damaged_member_is_named_and_what_was_done_stays(tmp_path):
    path = raw_wbc(tmp_path/"raw")/"segmentation_WBC-master.zip"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive: offset = archive.getinfo("segmentation_WBC-master/Dataset 1/004.bmp").header_offset
    path.write_bytes(whole[:offset + 90] + bytes([whole[offset + 90] ^ 255]) + whole[offset + 91:])
    with pytest.raises(CdfssError, match=r"segmentation_WBC-master.zip: segmentation_WBC-master/Dataset 1/004.bmp: this is damaged"):
        prepare("wbc", tmp_path/"raw", tmp_path/"out")
    assert len(Journal(tmp_path/"out"/JOURNAL, "wbc").done) == 3
    path.write_bytes(whole)
    done = []
    prepare("wbc", tmp_path/"raw", tmp_path/"out", progress=lambda number, total, key: done.append(key))
    prepare("wbc", tmp_path/"raw", tmp_path/"at once")
    assert len(done) == 12 and tree(tmp_path/"out") == tree(tmp_path/"at once")


def test_an_encrypted_archive_is_called_so(tmp_path):
    path = raw_wbc(tmp_path/"raw", count=1)/"segmentation_WBC-master.zip"
    data = bytearray(path.read_bytes())
    for sign, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(sign)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(sign, at + 4)
    path.write_bytes(data)
    with pytest.raises(CdfssError, match="001.bmp: this is encrypted. Unpack it with its password"): prepare("wbc", path, tmp_path/"out")


def test_names_that_are_no_text_are_reported(tmp_path):
    raw = raw_wbc(tmp_path/"raw")
    try: (raw/os.fsdecode(b"caf\xe9.bmp")).write_bytes(b"")
    except OSError: pytest.skip("this file system takes no such name")
    with tarfile.open(raw/"more.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("na\xefve.bmp"))
    report = prepare("wbc", raw, tmp_path/"out", shots=())
    assert sorted(odd.file for odd in report.odd if odd.kind == "name") == ["'caf\\udce9.bmp'", "'more.tar: na\\udcefve.bmp'"]
    assert report.pairs == {"cell": 12}


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives_that_were_cut_off(kind, share, tmp_path):
    files = unpacked(tmp_path/"files", {f"Dataset 1/{i:03d}.bmp": os.urandom(3000) for i in range(5)})
    archive = Path(shutil.make_archive(str(tmp_path/"whole"), {"tar.gz": "gztar"}.get(kind, kind), files))
    data = archive.read_bytes()
    (tmp_path/f"raw.{kind}").write_bytes(data[:int(share*len(data))])
    with pytest.raises(CdfssError, match="damaged|no WBC here"): prepare("wbc", tmp_path/f"raw.{kind}", tmp_path/"out")


def test_bombs_are_bounded_by_what_is_declared_and_by_the_disk(tmp_path, monkeypatch):
    bomb = zipped(tmp_path/"bomb.zip", {"Dataset 1/001.bmp": bytes(3_000_000), "Dataset 1/001.png": b"x"})
    assert bomb.stat().st_size < 10_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, module.RESERVE + 1_000_000))
    with pytest.raises(CdfssError, match="this needs up to 6.0 MB, and 1.0 MB are free"): prepare("wbc", bomb, tmp_path/"out")
    shutil.make_archive(str(tmp_path/"packed"), "gztar", unpacked(tmp_path/"zeros", {"Dataset 1/001.bmp": bytes(3_000_000)}))
    with pytest.raises(CdfssError, match="packed.tar.gz: this is damaged .*more than the 1000000 bytes"):
        prepare("wbc", tmp_path/"packed.tar.gz", tmp_path/"other")
    assert not list((tmp_path/"other").rglob("*.tar"))


def test_a_disk_that_is_full_at_any_moment(tmp_path, monkeypatch):
    raw = raw_wbc(tmp_path/"raw", count=1)
    prepare("wbc", raw, tmp_path/"whole", shots=(1,))
    expected, moments = tree(tmp_path/"whole"), 0
    originals = {"_copy": module._copy, "copyfile": shutil.copyfile, "fsync": os.fsync, "write": Journal._write}

    class Disk:
        "Counts what is written; the last time half of it is there when the disk is full."
        def __init__(self, last): self.left = last
        def full(self):
            self.left -= 1
            if self.left == 0: raise OSError(errno.ENOSPC, "No space left on device")
        def _copy(self, source, target, most):
            target.write(b"half")
            self.full()
            target.seek(0); target.truncate()
            return originals["_copy"](source, target, most)
        def copyfile(self, source, target):
            Path(target).write_bytes(b"half")
            self.full()
            return originals["copyfile"](source, target)
        def fsync(self, file):
            self.full()
            originals["fsync"](file)
        def write(self, journal, row):
            try: self.full()
            except OSError:
                with open(journal.path, "ab") as file: file.write(json.dumps(row).encode()[:20])
                raise
            originals["write"](journal, row)

    for moment in range(1, 200):
        out, disk = tmp_path/f"out{moment}", Disk(moment)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_copy", disk._copy)
            patch.setattr(shutil, "copyfile", disk.copyfile)
            patch.setattr(os, "fsync", disk.fsync)
            patch.setattr(Journal, "_write", lambda journal, row: disk.write(journal, row))
            try: prepare("wbc", raw, out, shots=(1,))
            except CdfssError as error: assert "the disk is full" in str(error) and "give the same command" in str(error)
            else: break
        made = {path: data for path, data in tree(out).items() if not path.startswith((WORK, JOURNAL))}
        assert made.items() <= expected.items() and not list(out.rglob(".writing-*"))
        prepare("wbc", raw, out, shots=(1,))
        assert tree(out) == expected
        moments = moment
    assert moments >= 20


KILLED = """
import sys, time
from pathlib import Path
from cdfss.data import prepare as module
copyfile, calls = module.shutil.copyfile, []
def slow(source, target):
    calls.append(target)
    if len(calls) < 8: return copyfile(source, target)
    Path(target).write_bytes(Path(source).read_bytes()[:100])
    print("half", flush=True)
    time.sleep(100)
module.shutil.copyfile = slow
module.prepare("wbc", sys.argv[1], sys.argv[2])
"""


def test_a_process_that_is_killed_in_the_middle_of_a_file(tmp_path):
    raw, out = raw_wbc(tmp_path/"raw"), tmp_path/"out"
    process = subprocess.Popen([sys.executable, "-c", KILLED, raw, out], stdout=subprocess.PIPE, text=True)
    try: assert process.stdout.readline() == "half\n"
    finally: process.kill()
    assert process.wait() == -signal.SIGKILL and list(out.rglob(".writing-*")) and len(Journal(out/JOURNAL, "wbc").done) == 3
    prepare("wbc", raw, out)
    prepare("wbc", raw, tmp_path/"at once")
    assert tree(out) == tree(tmp_path/"at once")


def test_nothing_that_is_not_ours_is_overwritten(tmp_path):
    raw = raw_wbc(tmp_path/"raw")
    unpacked(tmp_path/"mine", {"Dataset 1/001.bmp": b"mine"})
    with pytest.raises(CdfssError, match="not made by prepare"): prepare("wbc", raw, tmp_path/"mine")
    class Stop(Exception): pass
    def stop(number, total, key):
        if number == 2: raise Stop
    with pytest.raises(Stop): prepare("wbc", raw, tmp_path/"out", progress=stop)
    (tmp_path/"out/Dataset 1/005.bmp").write_bytes(b"mine")
    with pytest.raises(CdfssError, match="005.bmp: there is another file here"): prepare("wbc", raw, tmp_path/"out")
    assert (tmp_path/"out/Dataset 1/005.bmp").read_bytes() == b"mine" == (tmp_path/"mine/Dataset 1/001.bmp").read_bytes()
    with pytest.raises(CdfssError, match="this folder holds wbc"): prepare("suim", raw, tmp_path/"out")
    for out in (raw, raw/"out", tmp_path):
        with pytest.raises(CdfssError, match="lie in each other"): prepare("wbc", raw, out)


def test_what_was_changed_since_is_made_anew(tmp_path):
    raw = raw_wbc(tmp_path/"raw")
    prepare("wbc", raw, tmp_path/"out")
    before = tree(tmp_path/"out")
    (tmp_path/"out/Dataset 1/002.bmp").unlink()
    prepare("wbc", raw, tmp_path/"out")
    assert tree(tmp_path/"out").keys() == before.keys()
    assert (tmp_path/"out/Dataset 1/002.bmp").read_bytes() == before["Dataset 1/002.bmp"]


def test_what_is_missing_is_said(tmp_path):
    zipped(tmp_path/"raw"/"a.zip", {"pictures/1.gif": b"", "SYNTHIA_RAND_CITYSCAPES.rar": b""})
    with pytest.raises(CdfssError, match=r"no SYNTHIA here: 1 of pictures/\*.gif.*rar has to be unpacked first.*Expected RAND_CITYSCAPES/"):
        prepare("synthia", tmp_path/"raw", tmp_path/"out")
    with pytest.raises(CdfssError, match="no recipe named 'deepglob'. Did you mean deep"): prepare("deepglob", tmp_path, tmp_path/"out")


def test_a_published_digest_is_compared(tmp_path):
    raw = sources("pascal5i", tmp_path/"raw")
    (raw/"VOC2012.tar.gz").rename(raw/"VOCtrainval_11-May-2012.tar.gz")
    with tarfile.open(raw/"VOCtrainval_11-May-2012.tar", "w") as archive: archive.add(Path(__file__), "x.py")
    report = prepare("pascal5i", raw, tmp_path/"out", shots=())
    assert [odd.file for odd in report.odd if odd.kind == "digest"] == ["VOCtrainval_11-May-2012.tar"]
