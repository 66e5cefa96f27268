"""VoxFormer (Li et al., CVPR 2023): sparse voxel queries from depth look at the picture, then all voxels at each other."""
