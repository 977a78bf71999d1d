"""Image backbones by name."""
