"""Cross-domain few-shot semantic segmentation, taught and measured in notebooks.

`import cdfss` is light: each of the names below is imported when it is first used. Everything else is reached by its full module path.
"""
__version__ = "0.1.0"

from importlib import import_module

_HOME = {
    "CdfssError": "core", "seed_everything": "core",
    "Episode": "data.episodes", "Episodes": "data.episodes", "Manifest": "data.episodes", "Support": "data.episodes",
    "sample_manifest": "data.episodes", "open_dataset": "data.readers", "open_manifest": "data.readers", "sample_root": "data.samples",
    "backbone": "model.backbone",
    "MTMNet": "methods.mtmnet", "Prediction": "methods.base", "build_method": "methods.base", "load_method": "methods.base",
    "run_benchmark": "evaluate.benchmark",
}
__all__ = list(_HOME)


def __getattr__(name):
    if name not in _HOME: raise AttributeError(f"module 'cdfss' has no attribute {name!r}")
    return getattr(import_module(f"cdfss.{_HOME[name]}"), name)


def __dir__(): return sorted([*globals(), *_HOME])
