"""Batch image inference on Dask: a bucket of images in, one defended answer per image out."""

__version__ = "0.1.0"
