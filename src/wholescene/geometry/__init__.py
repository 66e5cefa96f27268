"""Pure functions between cameras, grids and tensors; nothing here has a parameter."""
