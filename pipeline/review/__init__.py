"""What became of runs: from one destination to its report, from two to their comparison. Effects: storage."""
