"""A run as a whole: checked, given workers, carried out, concluded; begun here or on the cluster."""
