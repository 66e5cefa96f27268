"""Symphonies (Jiang et al., CVPR 2024): instance queries carry what the picture says into the scene, and what the scene says back."""
