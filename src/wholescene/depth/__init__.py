"""Depth sources: metres along the optical axis and where they are valid, from files, disparity, a stereo pair, a network or the truth."""
