"""NDC-Scene (Yao et al., ICCV 2023): a volume in normalised device coordinates, grown from the picture, is read where each voxel lies."""
