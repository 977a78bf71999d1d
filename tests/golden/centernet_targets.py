"""Golden tests of centernet's targets."""

FILES = {}
