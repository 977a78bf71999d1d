"""Records, their preparation, and the input pipeline."""
