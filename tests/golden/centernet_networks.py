"""Golden tests of centernet's networks."""

FILES = {}
