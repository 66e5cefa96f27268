"""Datasets, one file a layout, and how frames become a batch."""
