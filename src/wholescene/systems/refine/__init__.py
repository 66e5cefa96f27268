"""Masked recurrent refinement (MonoMRN; Wang et al., ICCV 2025) of whatever a system completed: the room `refine`, on top of any system."""
