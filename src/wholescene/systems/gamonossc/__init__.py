"""GA-MonoSSC (Li et al., ICCV 2025): a transformer with two heads sees the picture, state space scans along frustums complete the volume."""
