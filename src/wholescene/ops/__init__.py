"""Operators that need a fast path: one file each, with the reference, the fast paths and the choice between them."""
