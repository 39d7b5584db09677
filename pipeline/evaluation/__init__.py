"""What outcomes say about a model. Pure."""
