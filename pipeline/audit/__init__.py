"""Whether a destination holds what it should: the checks behind ``python -m pipeline.verify``, apart from who wrote it."""
