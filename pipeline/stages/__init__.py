"""The stages of the way through: plain functions that know nothing of Dask and never import one another."""
