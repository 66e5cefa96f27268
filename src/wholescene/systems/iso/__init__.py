"""ISO (Yu et al., ECCV 2024): lines of sight that know how far the surface is, then MonoScene's 3D UNet."""
