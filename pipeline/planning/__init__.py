"""What a run is going to take, found out on the cluster that it would have; the arithmetic is `pipeline.forecast`."""
