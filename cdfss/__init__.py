"""Cross-domain few-shot semantic segmentation, taught and measured in notebooks."""
__version__ = "0.1.0"
