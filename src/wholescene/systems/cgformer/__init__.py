"""CGFormer (Yu et al., NeurIPS 2024): depth lifts the picture's context, proposed voxels look at it again, then the volume is seen three ways."""
