"""MonoScene (Cao and de Charette, CVPR 2022): features along lines of sight, a 3D UNet with a context relation prior."""
