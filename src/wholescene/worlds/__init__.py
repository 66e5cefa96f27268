"""Procedural worlds: solids, light, ray casting, exact voxels and what was seen of them. Needs the extra `worlds` to cast rays."""
