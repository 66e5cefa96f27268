"""Looking at scenes: static pictures, one self-contained page, and files for other programs. Knows the nouns only; needs Pillow and NumPy, no GL."""
