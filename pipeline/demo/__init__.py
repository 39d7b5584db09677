"""The embedded default: drawings of 120 breeds, weights that know them, and an S3 server, all made on this machine."""
