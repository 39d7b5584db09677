"""The stages carried by Dask: as little logic as can be."""
