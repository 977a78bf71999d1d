"""Golden tests of centernet's decode."""

FILES = {}
