"""MonoMRN (Wang et al., ICCV 2025): a coarse completion from projected surfaces, then masked recurrent refinement."""
