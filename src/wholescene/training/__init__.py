"""Training and evaluation: the only place that knows Lightning (extra `train`)."""
