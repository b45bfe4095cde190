"""Damaged and hostile files by the thousand: each gives a result or a `CdfssError`, soon, in little memory, and writes nothing elsewhere.

    python tests/fuzz.py                          12,000 cases of all kinds; what is found is printed, with the command that tries it again
    python tests/fuzz.py --kinds images masks     only some kinds
    python tests/fuzz.py --seed 3 --cases 500     other cases, fewer of them
    python tests/fuzz.py --kinds images --case 17 one case, with its whole traceback
    python tests/fuzz.py --store                  … and the counts go into benchmarks/fuzz.json; those of other kinds stay

A case depends on seed, kind and number alone. Memory is read from /proc, where there is one.
"""
import argparse
import copy
import io
import json
import logging
import os
import platform
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes

from cdfss.app.own_images import check_images, find_corrections, image_files, pair_masks, read_labelled, segment_images
from cdfss.core import CdfssError, file_sha256, numpy_rng, set_threads
from cdfss.data.episodes import Episodes, Manifest, Support, sample_manifest
from cdfss.data.images import image_pages, read_ignored, read_image, read_labels, read_mask_values, read_pair
from cdfss.data.prepare import JOURNAL, prepare
from cdfss.data.readers import open_dataset, open_manifest
from cdfss.data.samples import sample_root
from cdfss.evaluate.benchmark import read_rows, run_benchmark
from cdfss.methods.base import build_method, load_method
from cdfss.model.backbone import backbone
from cdfss.train.loop import Checkpoint, train

STORE = Path(__file__).resolve().parents[1]/"benchmarks"/"fuzz.json"
SECONDS = 20          # of the processor's time that a case may take; ten times as much by the clock
MEGABYTES = {"own": 2000}      # that a case of a kind may add to the memory in use, else …
READING = 1200        # … what it costs to read an image of PIL.Image.MAX_IMAGE_PIXELS, see `largest_images`
KINDS: dict[str, Callable] = {}    # name → (rng, folder) → (what was done to the file, what is tried)


def kind(make: Callable) -> Callable:
    KINDS[make.__name__] = make
    return make


@cache
def home() -> tempfile.TemporaryDirectory: return tempfile.TemporaryDirectory(prefix="fuzz-kept-")   # removed when the process ends


def scratch() -> Path:
    "A new folder for what is made once."
    return Path(tempfile.mkdtemp(dir=home().name))


# ---------------------------------------------------------------- damage

def damaged(rng: np.random.Generator, data: bytes) -> tuple[str, bytes]:
    "Bytes as a bad disk, a broken download or a bored stranger would leave them."
    if not data: return "empty", data                                              # it was damaged before
    how = rng.choice(["whole", "cut", "bits", "bits", "bytes", "zeros", "extreme", "twice", "gap", "inserted", "noise", "empty"])
    data, at, span = bytearray(data), int(rng.integers(len(data))), int(rng.integers(1, 65))
    if rng.random() < .5: at = min(at, int(rng.integers(128)))                     # heads are where the sizes are
    if how == "cut": del data[at:]
    if how == "bits":
        for place in rng.integers(at, min(len(data), at + 4096), rng.integers(1, 9)): data[place] ^= 1 << int(rng.integers(8))
    if how == "bytes": data[at:at + span] = rng.bytes(len(data[at:at + span]))
    if how == "zeros": data[at:at + span] = bytes(len(data[at:at + span]))
    if how == "extreme": data[at:at + 4] = pick(rng, [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f"])
    if how == "twice": data[at:at] = data[at:at + 16*span]
    if how == "gap": del data[at:at + span]
    if how == "inserted": data[at:at] = rng.bytes(span)
    if how == "noise": data = bytearray(rng.bytes(len(data)))
    if how == "empty": data = bytearray()
    return str(how), bytes(data)


NUMBERS = [None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, 10**400, .5, -.5, 1e308, float("nan"), float("inf")]
TEXTS = ["", "x", "0", "\0", "a/../..", "/etc/passwd", "..\\x", "C:\\x", "ä ö", "\ud800", "x"*300, "x"*5000, "#", "#p1", "#p0", "#p" + "9"*5000,
         "#" + "9"*22, "#1,2,3", "#1,2,300", "#é", ".", "..", "*", "$(id)"]
ODD = [*NUMBERS, *TEXTS, [], {}, [[]], [None], {"": 0}, [1, 2], ["x", "y"], {"x": {"y": []}}]


def pick(rng: np.random.Generator, some): return some[rng.integers(len(some))]


def spoilt(rng: np.random.Generator, value):
    "A JSON value with something odd in one place."
    value = copy.deepcopy(value)
    places = []
    def walk(node):
        for key in (node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()):
            places.append((node, key))
            walk(node[key])
    walk(value)
    if not places: return pick(rng, ODD)
    node, key = pick(rng, places)
    how = rng.integers(8)
    if how == 0: del node[key]
    elif how == 1 and isinstance(node, list): node.insert(key, copy.deepcopy(node[key]))
    elif how == 1: node[str(rng.choice(["", "root", "name", "path", "x", "reader", "__class__"]))] = pick(rng, ODD)
    elif how == 2 and isinstance(node[key], str): node[key] += pick(rng, TEXTS)
    elif how == 3:
        other, there = pick(rng, places)
        node[key] = copy.deepcopy(other[there])
    else: node[key] = pick(rng, ODD)
    return value


def spoilt_json(rng: np.random.Generator, value) -> tuple[str, bytes]:
    "A JSON text with something odd in it, or damaged as text."
    if rng.random() < .15: return damaged(rng, json.dumps(value).encode())
    for _ in range(rng.integers(1, 4)): value = spoilt(rng, value)
    return "value", json.dumps(value).encode("utf-8", "surrogatepass")


NAMES = ["a", "with space", "ümläut 图片", ".dot", "..two", "a#b", "a#p1", "#", "%s{0}$(id)`id`;", "-rf", "'\"", "x"*200, "new\nline", "a.b.c", "CON",
         "\u202egnp", "é"*100]


def odd_name(rng) -> str: return pick(rng, NAMES) if rng.random() < .3 else "x"


# ---------------------------------------------------------------- images and masks

@cache
def pictures() -> dict[str, bytes]:
    "A small picture in every kind of file that can be written here: ending, mode and options → bytes."
    rng, files = np.random.default_rng(0), {}
    rgb = Image.fromarray(rng.integers(0, 256, (17, 23, 3), np.uint8))
    wide = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    modes = {mode: Image.fromarray(rng.uniform(0, 60000, (17, 23)).astype(dtype)) for mode, dtype in wide.items()}
    modes |= {mode: rgb.convert(mode) for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")}
    exif = Image.Exif()
    exif[0x0112] = 6
    more = dict(save_all=True, append_images=[rgb, rgb.rotate(90)])
    ways = [(".png", "PNG", {}), (".png", "PNG", dict(transparency=0)), (".png", "PNG", more), (".jpg", "JPEG", {}),
            (".jpg", "JPEG", dict(progressive=True, exif=exif)), (".bmp", "BMP", {}), (".gif", "GIF", {}), (".gif", "GIF", more),
            *((".tif", "TIFF", dict(compression=f"tiff_{way}" if way in ("lzw", "adobe_deflate") else way))
              for way in (None, "lzw", "adobe_deflate", "packbits", "jpeg", "group4", "zstd", "lzma")),
            (".tif", "TIFF", more), (".webp", "WEBP", {}), (".webp", "WEBP", dict(lossless=True)), (".webp", "WEBP", more),
            (".jp2", "JPEG2000", {}), (".avif", "AVIF", {}), (".ico", "ICO", dict(sizes=[(16, 16)])), (".mpo", "MPO", more),
            *((f".{name.lower()}", name, {}) for name in
              ("ICNS", "PPM", "PCX", "TGA", "DDS", "SGI", "IM", "EPS", "XBM", "BLP", "QOI", "SPIDER", "MSP", "PDF"))]
    for number, (suffix, format, options) in enumerate(ways):
        for mode, image in modes.items():
            try: image.save(file := io.BytesIO(), format=format, **options)
            except Exception: continue                                     # this kind of file has no such mode, or is not known here
            files[f"{number:02d} {mode}{suffix}"] = file.getvalue()
    return files


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, colours: int, pixels: bytes, *more: bytes) -> bytes:
    "A PNG file of some compressed bytes, whatever its head says."
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def png_bomb(rng, width, height):
    return png(width, height, *pick(rng, [(8, 2), (16, 0), (1, 0), (8, 6), (8, 3)]), zlib.compress(bytes(1000)))


def whole_bomb(rng, width, height):
    side, pixels = int(rng.integers(2000, 13000)), zlib.compressobj(9)
    return png(side, side, 1, 0, pixels.compress(bytes((1 + (side + 7)//8)*side)) + pixels.flush())


def text_bomb(rng, width, height):
    return png(1, 1, 8, 0, zlib.compress(b"\0\0"), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26), 9)))


def bmp_bomb(rng, width, height):
    bits, packing = int(pick(rng, [1, 4, 8, 24, 32])), int(rng.integers(3))
    head = struct.pack("<IIiiHHIIiiII", 40, width & 0x7fffffff, height & 0x7fffffff, 1, bits, packing, 0, 0, 0, 0, 0, 0)[:40]
    return b"BM" + struct.pack("<IHHI", 154, 0, 0, 54) + head + bytes(100)


def gif_bomb(rng, width, height):
    size = struct.pack("<HH", width & 65535, height & 65535)
    return b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b"," + bytes(4) + size + b"\0\x02\x02\x4c\x01\0;"


def tiff_bomb(rng, width, height):
    way = pick(rng, ["raw", "tiff_lzw", "group4", "packbits", "tiff_adobe_deflate"])
    Image.new("1", (64, 64)).save(file := io.BytesIO(), "TIFF", compression=way)
    data = bytearray(file.getvalue())
    first, = struct.unpack_from("<I", data, 4)
    for place in range(first + 2, first + 2 + 12*struct.unpack_from("<H", data, first)[0], 12):
        tag, = struct.unpack_from("<H", data, place)
        size = (height if tag == 257 else width) >> int(rng.integers(24))
        if tag in (256, 257, 278) or rng.random() < .05: struct.pack_into("<HII", data, place + 2, 4, 1, size)
    return bytes(data)


def webp_bomb(rng, width, height):
    size = struct.pack("<I", width & 0xffffff)[:3] + struct.pack("<I", height & 0xffffff)[:3]
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes([pick(rng, [0, 2, 16]), 0, 0, 0]) + size


def tga_bomb(rng, width, height):
    head = bytes([0, 0, pick(rng, [2, 3, 10, 11])]) + bytes(9)
    return head + struct.pack("<HHBB", width & 65535, height & 65535, pick(rng, [8, 24, 32]), 0) + bytes(200)


def ppm_bomb(rng, width, height):
    return f"{pick(rng, ['P1', 'P2', 'P3', 'P4', 'P5', 'P6', 'Pf'])} {width} {height} {pick(rng, [1, 255])}\n".encode() + bytes(200)


def pcx_bomb(rng, width, height):
    head = struct.pack("<BBBBHHHHHH", 10, 5, 1, 8, 0, 0, width & 65535, height & 65535, 72, 72)
    return head + bytes(49) + struct.pack("<BHH", pick(rng, [1, 3]), width & 65535, 1) + bytes(258)


def sgi_bomb(rng, width, height):
    size = width & 65535, height & 65535, pick(rng, [1, 3, 4])
    return struct.pack(">HBBHHHH", 474, int(rng.integers(2)), pick(rng, [1, 2]), 3, *size) + bytes(600)


def ico_bomb(rng, width, height):
    inner = png(width >> 16, height >> 16, 8, 6, zlib.compress(bytes(1000)))
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def jp2_bomb(rng, width, height):
    data = bytearray(next((data for name, data in pictures().items() if name.endswith("RGB.jp2")), bytes(99)))
    struct.pack_into(">II", data, max(data.find(b"ihdr"), 0) + 4, height, width)
    if rng.random() < .5: struct.pack_into(">II", data, max(data.find(b"\xff\x51"), 0) + 6, width, height)
    return bytes(data)


BOMBS = (png_bomb, whole_bomb, text_bomb, bmp_bomb, gif_bomb, tiff_bomb, webp_bomb, tga_bomb, ppm_bomb, pcx_bomb, sgi_bomb, ico_bomb,
         jp2_bomb)


def bomb(rng: np.random.Generator) -> tuple[str, bytes]:
    "A small file that says it is a large image; some of them are."
    make = pick(rng, BOMBS)
    return make.__name__.replace("_", " "), make(rng, *(int(2**rng.uniform(0, 31.9)) for _ in range(2)))


def picture_file(rng, folder: Path) -> tuple[str, Path]:
    "A damaged picture under some name and ending."
    files = pictures()
    if rng.random() < .15: (how, data), suffix = bomb(rng), ".png"
    else:
        name = pick(rng, list(files))
        (how, data), suffix = damaged(rng, files[name]), Path(name).suffix
        if rng.random() < .1: how, data = f"{how}, then cut", data[:rng.integers(len(data) + 1)]
        how = f"{suffix} {how}"
    if rng.random() < .2: suffix = pick(rng, [".png", ".jpg", ".tif", ".gif", "", ".txt", ".PNG", ".zip", ".json"])
    path = folder/(odd_name(rng) + suffix)
    path.write_bytes(data)
    return how, path


@kind
def images(rng, folder):
    how, path = picture_file(rng, folder)
    upright = bool(rng.integers(2))
    def call():
        assert read_image(path, upright).mode == "RGB"
        for page in image_pages(path)[:5]: read_image(page, upright)
    return how, call


@kind
def masks(rng, folder):
    how, path = picture_file(rng, folder)
    Image.new("RGB", (23, 17), "red").save(image := folder/"image.png")
    part = pick(rng, ["", "", "#p1", "#p2", "#p0", "#1", "#255", "#1,2,3", "#a", "#", "#p", "#" + "9"*5000, "#p" + "9"*5000, "#-1", "#1:2"])
    calls = [lambda: read_mask_values(f"{path}{part}"), lambda: read_labels(path), lambda: read_ignored(f"{path}{part}", 8),
             lambda: read_pair(image, path, size=8), lambda: read_mask_values(path, upright=True),
             lambda: Support.from_files(image, path, size=8), lambda: Support.from_files(path, path, size=8)]
    return f"{how} {part[:9]}".strip(), pick(rng, calls)


@kind
def own(rng, folder):
    "A person's folder of photos, one of them labelled; some damaged, some oddly named."
    small_set(folder/"set")
    images = [folder/"set"/"images"/f"{i}.png" for i in range(3)]
    how = "whole"
    for path in images[1:]:
        if rng.random() < .5: continue
        how, found = picture_file(rng, folder/"set")
        path.unlink()
        found.rename(path.with_name(odd_name(rng) + found.suffix))
    def call():
        named = image_files(pick(rng, [folder/"set"/"images", str(folder/"set"/"images"/"*"), [folder/"set"/"images"]]))
        tile = pick(rng, [None, 16])
        labelled = read_labelled(pair_masks(images[:1], image_files(folder/"set"/"masks")[:1]), 32, tile=tile)
        check_images(named, 32, tile)
        segment_images(build_method("prototype", device="cpu"), named, folder/"out", labelled=labelled, tile=tile, scores=True, overlays=True)
        assert (folder/"out"/"areas.csv").is_file()
        find_corrections(named, folder/"out"/"masks")
    return how, call


# ---------------------------------------------------------------- data sets

def small_set(folder: Path, count: int = 3):
    "Own images with masks, 12 pixels wide."
    for i in range(count):
        mask = np.pad(np.full((3, 4 + i), 255, np.uint8), ((3, 3), (2, 6 - i)))
        for kind, pixels in (("images", np.full((9, 12, 3), 40*i, np.uint8)), ("masks", mask)):
            (folder/kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder/kind/f"{i}.png")


@kind
def manifests(rng, folder):
    small_set(folder/"set")
    reader = open_dataset("folder", folder/"set", **([{}, {"threshold": 100}][rng.integers(2)]))
    lines = list(map(json.loads, sample_manifest(reader, episodes=3, image_size=16).dumps().splitlines()))
    if rng.random() < .4:
        option = pick(rng, ["threshold", "name", "root", "split", "fold", "classes", "exclude", "smallest", "class_name"])
        lines[0] |= {"reader": pick(rng, ["folder", "folder", "wbc", "pascal5i", "fss1000", "coco20i"]), "reader_options": {option: pick(rng, ODD)}}
    how, text = "value", b""
    if rng.random() < .2: how, text = damaged(rng, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    else:
        place = int(rng.integers(len(lines)))
        for _ in range(rng.integers(1, 3)): lines[place] = spoilt(rng, lines[place])
        text = b"".join(json.dumps(line).encode("utf-8", "surrogatepass") + b"\n" for line in lines)
    (folder/"m.jsonl").write_bytes(text)
    def call():
        episodes = open_manifest(folder/"m.jsonl", folder/"set", check=bool(rng.integers(4)))
        episodes[0], episodes[len(episodes) - 1]
        Manifest.parse(episodes.manifest.dumps())
    return how, call


@kind
def readers(rng, folder):
    name = pick(rng, ["folder", "isic2018", "chest_xray", "fss1000", "coco20i", "pascal5i", "suim", "segpc2021", "wbc"])
    root = folder/"set"
    if name == "folder": small_set(root)
    else: shutil.copytree(tiny_set(name), root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    done = []
    for _ in range(rng.integers(1, 4)):
        path = pick(rng, [path for path in files if os.path.isfile(path) and not path.is_symlink()])
        how = pick(rng, ["bytes", "bytes", "gone", "renamed", "folder", "link", "loop", "other", "copy"])
        if how == "bytes" and path.suffix == ".json": path.write_bytes(spoilt_json(rng, json.loads(path.read_bytes()))[1])
        elif how == "bytes": path.write_bytes(damaged(rng, path.read_bytes())[1])
        elif how == "copy": path.with_name(odd_name(rng) + path.suffix).write_bytes(path.read_bytes())
        elif how == "other": path.write_bytes(pick(rng, [file for file in files if os.path.isfile(file)]).read_bytes())
        elif how == "renamed": path.rename(path.with_name(odd_name(rng) + path.suffix))
        else:
            path.unlink()
            if how == "folder": path.mkdir()
            if how == "link": path.symlink_to(folder/"nowhere")
            if how == "loop": path.symlink_to(path)
        done.append(how)
    options = {"fold": None} if name in ("coco20i", "pascal5i") else {}
    def call():
        reader = open_dataset(name, root, **options)
        for class_id in range(len(reader.class_names)): reader.pairs(class_id)
        episodes = Episodes(sample_manifest(reader, episodes=2, image_size=16), reader.root, reader.is_foreground)
        episodes[0], episodes[1]
    return f"{name}: {', '.join(done)}", call


@cache
def tiny_set(name: str) -> Path:
    "A drawn set, every fourth pixel of it."
    home = scratch()/name
    for path in sorted(sample_root(name).rglob("*")):
        target = home/path.relative_to(sample_root(name))
        if path.is_dir(): continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return home


# ---------------------------------------------------------------- archives

def packed(rng, files: dict[str, bytes]) -> tuple[str, bytes]:
    "Files in an archive of some kind; some names lead elsewhere."
    names = {name: name for name in files}
    if rng.random() < .3:
        name = pick(rng, list(files))
        names[name] = pick(rng, ["../" + name, "/" + name, "a/../../" + name, "..\\" + name, "C:\\" + name, name + "/..",
                                 "/" + "../"*9 + "tmp/" + name, "", ".", "x"*5000, "é"*100 + name, "?" + name, "a\nb"])
    file, suffix = io.BytesIO(), pick(rng, [".zip", ".zip", ".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
    if suffix == ".zip":
        way = pick(rng, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        with zipfile.ZipFile(file, "w", way) as archive:
            for name, data in files.items():
                info = zipfile.ZipInfo(names[name])
                info.compress_type, info.external_attr = way, (0o120777 if rng.random() < .03 else 0o644) << 16
                archive.writestr(info, data)
    else:
        with tarfile.open(fileobj=file, mode="w" + suffix[4:].replace(".", ":")) as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(names[name])
                info.size = len(data)
                if rng.random() < .05:
                    info.type = pick(rng, [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
                    info.linkname = pick(rng, ["/etc/passwd", "../x"])
                archive.addfile(info, io.BytesIO(data))
    return suffix, file.getvalue()


@cache
def raw_files() -> dict[str, bytes]:
    "The raw files of a data set, small: FSS-1000, which comes as it is read."
    files = {}
    for name in ("acorn", "bear"):
        for i in range(1, 4):
            mask = np.pad(np.full((3, 4), 255, np.uint8), ((3, 3), (i, 8 - i)))
            for suffix, format, pixels in ((".jpg", "JPEG", np.full((9, 12, 3), 30*i, np.uint8)), (".png", "PNG", mask)):
                Image.fromarray(pixels).save(file := io.BytesIO(), format)
                files[f"fewshot_data/{name}/{i}{suffix}"] = file.getvalue()
    return files


@kind
def archives(rng, folder):
    suffix, data = packed(rng, raw_files())
    how = "whole"
    if rng.random() < .25: suffix, data = packed(rng, {f"inner{suffix}": data})
    if rng.random() < .8: how, data = damaged(rng, data)
    if rng.random() < .1: suffix = pick(rng, [".zip", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2", ".tgz"])
    raw = folder/"raw"
    raw.mkdir()
    (raw/f"fewshot_data{suffix}").write_bytes(data)
    if rng.random() < .15:                                                          # what an earlier call left behind is damaged as well
        (folder/"out").mkdir()
        lines = [{"prepared": "fss1000"}, {"step": "acorn/1", "uses": [["x", 3]], "files": {"acorn/1.jpg": [3, "0"]}, "odd": []}]
        for _ in range(rng.integers(3)): lines = spoilt(rng, lines)
        (folder/"out"/JOURNAL).write_bytes(b"".join(json.dumps(line).encode("utf-8", "surrogatepass") + b"\n" for line in lines))
        how = f"{how}, journal"
    return f"{suffix} {how}", lambda: prepare("fss1000", raw, folder/"out", shots=(1,))


# ---------------------------------------------------------------- weights, trained methods, checkpoints

@cache
def tensors() -> dict[str, torch.Tensor]: return backbone("embedded", weights=None, stages=1).net.state_dict()


class Hostile:
    "What a pickle may do to whoever loads it."
    def __init__(self, folder): self.folder = folder
    def __reduce__(self): return Path.touch, (Path(self.folder)/"was-here",)


def odd_state(rng, folder) -> tuple[str, object]:
    "A state dict with something odd in it."
    state, how = dict(tensors()), pick(rng, ["whole", "gone", "shape", "dtype", "nan", "more", "name", "key", "value", "nested", "hostile",
                                             "expanded", "meta", "sparse", "complex"])
    name = pick(rng, list(state))
    if how == "gone": del state[name]
    if how == "shape": state[name] = torch.zeros(tuple(rng.integers(0, 4, rng.integers(0, 4))))
    if how == "dtype":
        names = ["int8", "bool", "float16", "float64", "bfloat16", "float8_e4m3fn", "int64", "uint16"]
        state[name] = state[name].to(getattr(torch, pick(rng, names)))
    if how == "nan" and state[name].is_floating_point(): state[name] = state[name]*float("nan")
    if how == "more": state[str(pick(rng, TEXTS)) + ".x"] = torch.zeros(2)
    if how == "name": state[f"module.{name}"] = state.pop(name)
    if how == "key": state[pick(rng, [0, None, (1,), 2.5, b"x"])] = state.pop(name)
    if how == "value": state[name] = pick(rng, [None, 3, "x", [], {}, torch.nn.Parameter(torch.zeros(2))])
    if how == "nested":
        state = pick(rng, [{"state_dict": state}, {"model": state}, {"state_dict": {"model": state}}, [state], state[name], None, {},
                           {"state_dict": 3}])
    if how == "hostile": state[name] = Hostile(folder)
    if how == "expanded": state[name] = torch.zeros(()).expand([10**6]*2)
    if how == "meta": state[name] = state[name].to("meta")
    if how == "sparse": state[name] = state[name].float().to_sparse()
    if how == "complex": state[name] = state[name].to(torch.complex64)
    return how, state


@kind
def weights(rng, folder):
    suffix = pick(rng, [".pth", ".pth", ".safetensors"])
    how, state = odd_state(rng, folder)
    path = folder/f"w{suffix}"
    if suffix == ".safetensors":
        try: data = safetensors_bytes({name: value.contiguous() for name, value in state.items()})
        except Exception: how, data = "whole", safetensors_bytes(dict(tensors()))
        path.write_bytes(data)
    else:
        try: torch.save(state, path, _use_new_zipfile_serialization=bool(rng.integers(3)))
        except Exception: torch.save(dict(tensors()), path)
    if rng.random() < .5:
        done, data = damaged(rng, path.read_bytes())
        how = f"{how}, {done}"
        path.write_bytes(data)
    if rng.random() < .05: path = path.rename(path.with_suffix(pick(rng, [".pth", ".safetensors", ".pt", ""])))
    def call():
        maps = backbone("embedded", weights=path, stages=1)(torch.zeros(1, 3, 32, 32))
        assert all(level.isfinite().all() for level in maps)
    return f"{suffix} {how}", call


@cache
def trained(name: str) -> Path:
    "A method that was adapted and saved."
    masks = torch.zeros(1, 64, 64)
    masks[:, 16:40, 16:40] = 1
    if name == "sfda":
        method = build_method(name, device="cpu", width=4)
        method.build(("background", "cell"), 3)
        return method.save(scratch()/name)
    method = build_method(name, device="cpu", **({"steps": 1} if name in ("linear", "mtmnet") else {}))
    return method.adapt(Support(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), masks)).save(scratch()/name)


@kind
def methods(rng, folder):
    home = shutil.copytree(trained(pick(rng, ["linear", "prototype", "raw", "mtmnet", "sfda"])), folder/"method")
    network, facts = home/"network.safetensors", home/"method.json"
    how = pick(rng, ["facts", "facts", "facts", "tensors", "network", "gone"])
    values = json.loads(facts.read_text())
    if how == "gone": pick(rng, [network, facts]).unlink()
    if how == "tensors":
        state = load_file(network)
        name = pick(rng, list(state))
        change = rng.integers(4)
        if change == 0: del state[name]
        if change == 1: state[name] = torch.zeros(tuple(rng.integers(0, 4, rng.integers(0, 5))))
        if change == 2: state[name] = state[name]*float("nan")
        if change == 3: state["more"] = torch.zeros(1)
        network.write_bytes(safetensors_bytes(state))
    if how == "network": network.write_bytes(damaged(rng, network.read_bytes())[1])
    if how in ("tensors", "network") and rng.random() < .7:                          # also with a hash that fits
        facts.write_text(json.dumps(values | {"network_sha256": file_sha256(network)}))
    if how == "facts": facts.write_bytes(spoilt_json(rng, values)[1])
    def call(): load_method(home, "cpu").predict(torch.zeros(3, 64, 64))
    return how, call


@kind
def checkpoints(rng, folder):
    def run():
        layer = torch.nn.Linear(2, 1)
        keep = Checkpoint(folder/"c.pt", {"layer": layer}, about={"data": "x"})
        train(lambda x: {"a": layer(x).square().mean()}, torch.optim.Adam(layer.parameters()), [torch.ones(3, 2)]*3, epochs=2, callbacks=[keep])
    run()
    how = pick(rng, ["bytes", "value", "hostile"])
    if how == "bytes":
        done, data = damaged(rng, (folder/"c.pt").read_bytes())
        how = f"bytes, {done}"
        (folder/"c.pt").write_bytes(data)
    else:
        state = torch.load(folder/"c.pt", weights_only=True)
        node = state
        while isinstance(node, dict) and node:
            key = pick(rng, list(node))
            if not isinstance(node[key], dict) or rng.random() < .3: break
            node = node[key]
        values = [None, 3, -1, "x", [], {}, torch.zeros(2), torch.zeros(()), [1, 2], [-1, 10**9], "{", 1e400]
        if node: node[key] = Hostile(folder) if how == "hostile" else pick(rng, values)
        torch.save(state, folder/"c.pt")
    return how, run


# ---------------------------------------------------------------- runs

def run_small(home: Path) -> dict:
    "A benchmark of three small episodes; begun before, it goes on."
    reader = open_dataset("folder", home/"set")
    episodes = Episodes(sample_manifest(reader, episodes=3, image_size=32), reader.root)
    build = lambda seed: build_method("prototype", device="cpu", seed=seed)
    return run_benchmark(build, episodes, home/"run", threads=1, progress=False, resume=True)


@cache
def finished_run() -> Path:
    home = scratch()
    small_set(home/"set")
    run_small(home)
    (home/"run"/"summary.json").unlink()
    return home


@kind
def runs(rng, folder):
    shutil.copytree(finished_run(), folder, dirs_exist_ok=True)
    path = folder/"run"/(name := pick(rng, ["rows.csv", "rows.csv", "run.json", "manifest.jsonl"]))
    how, data = spoilt_json(rng, json.loads(path.read_bytes())) if name == "run.json" else damaged(rng, path.read_bytes())
    path.write_bytes(data)
    def call():
        run_small(folder)
        read_rows(folder/"run")
    return f"{name} {how}", call


# ---------------------------------------------------------------- running them

class Late(BaseException): pass


def late(*_): raise Late


def memory(field: str) -> float:
    "Megabytes, from the process's own account; 0 where there is none."
    try: lines = Path("/proc/self/status").read_text().splitlines()
    except OSError: return 0.
    return next((int(line.split()[1])/1024 for line in lines if line.startswith(field)), 0.)


def forget_peak():
    try: Path("/proc/self/clear_refs").write_text("5")
    except OSError: pass


def place_of(error: BaseException) -> str:
    "The last line of the package that was on the way to an error."
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "cdfss" in Path(frame.filename).parts]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside"


def try_case(seed: int, name: str, number: int, whole: bool = False) -> dict:
    "One case: what was done, what came of it, and what it cost."
    with tempfile.TemporaryDirectory(prefix="fuzz-") as around:
        folder = Path(around)/"case"
        folder.mkdir()
        how, call = KINDS[name](numpy_rng("fuzz", seed, name, number), folder)
        torch.manual_seed(0)
        forget_peak()
        before, began, told = memory("VmRSS"), time.process_time(), ""
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, 10*SECONDS)
        try:
            call()
            outcome = "result"
        except CdfssError as error:
            outcome, told = "refused", str(error)
            if whole: traceback.print_exc()
        except Late: outcome = "finding: not done in time"
        except Exception as error:
            outcome = f"finding: {type(error).__name__} at {place_of(error)}: {str(error)[:150]}"
            if whole: traceback.print_exc()
        finally: signal.setitimer(signal.ITIMER_REAL, 0)
        seconds, grown = time.process_time() - began, memory("VmHWM") - before
        if seconds > SECONDS: outcome = f"finding: {seconds:.0f} s"
        if grown > MEGABYTES.get(name, READING): outcome = f"finding: {grown:.0f} MB of memory"
        if len(told) > 20_000 or outcome == "refused" and not told.strip(): outcome = f"finding: a message of {len(told)} characters"
        if os.listdir(around) != ["case"] or (folder/"was-here").exists(): outcome = "finding: something was written elsewhere, or run"
    return dict(how=how, outcome=outcome, told=told, seconds=seconds, megabytes=grown)


def fuzz(seed: int, cases: int, kinds: list[str]) -> dict[str, dict]:
    "Counts by kind. Findings are printed, the first of each place."
    counts = {}
    for name in kinds:
        tally, places, slowest, largest = Counter(), Counter(), 0., 0.
        for number in range(cases//len(kinds)):
            case = try_case(seed, name, number)
            outcome = case["outcome"].partition(":")[0]
            tally[outcome] += 1
            slowest, largest = max(slowest, case["seconds"]), max(largest, case["megabytes"])
            if outcome == "finding":
                places[key := case["outcome"].partition(": ")[2][:60]] += 1
                if places[key] == 1: print(f"  {name} {number} ({case['how']}): {case['outcome']}", flush=True)
        counts[name] = dict(cases=sum(tally.values()), results=tally["result"], refused=tally["refused"], findings=tally["finding"],
                            slowest_seconds=round(slowest, 2), most_megabytes=round(largest))
        print(f"{name}: {counts[name]}", flush=True)
    return counts


def largest_images() -> dict[str, int]:
    "Mode → megabytes that reading an image of the most pixels allowed adds, at its height."
    side, most = int(Image.MAX_IMAGE_PIXELS**.5), {}
    path = scratch()/"large.tif"
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"):
        Image.new(mode, (side, side)).save(path, compression="tiff_lzw")
        for read in (read_image, read_mask_values):
            forget_peak()
            before = memory("VmRSS")
            read(path)
            most[mode] = max(most.get(mode, 0), round(memory("VmHWM") - before))
    return most


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=12_000, help="of all kinds together")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--case", type=int)
    parser.add_argument("--store", action="store_true")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    logging.disable()                                                                 # Pillow's remarks on what it cannot read
    set_threads(1)
    if given.case is not None: return print(json.dumps(try_case(given.seed, given.kinds[0], given.case, whole=True), indent=1))
    sys.stderr = os.fdopen(os.dup(2), "w")                                            # what goes wrong in this program itself
    with open(os.devnull, "w") as nothing: os.dup2(nothing.fileno(), 2)               # libtiff talks to standard error
    counts = fuzz(given.seed, given.cases, given.kinds)
    if given.store:
        versions = dict(python=platform.python_version(), torch=torch.__version__, pillow=PIL.__version__)
        earlier = json.loads(STORE.read_text()) if STORE.exists() else {}
        facts = earlier | dict(seed=given.seed, **versions, kinds=earlier.get("kinds", {}) | counts)
        if "images" in counts: facts["largest_images"] = largest_images()
        STORE.write_text(json.dumps(facts, indent=1) + "\n")
    findings = sum(row["findings"] for row in counts.values())
    print(f"{findings} findings")
    sys.exit(findings > 0)


if __name__ == "__main__": main()
