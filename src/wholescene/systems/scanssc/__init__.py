"""ScanSSC (Bae, Ha and Kim, CVPR 2025): CGFormer's lift, then distant voxels look back at near ones along each axis."""
