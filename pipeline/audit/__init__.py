"""Whether a destination holds what it should: the checks behind verify, apart from whatever wrote it."""
