"""Golden tests of centernet's losses."""

FILES = {}
