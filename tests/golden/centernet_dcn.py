"""Golden tests of centernet's dcn."""

FILES = {}
