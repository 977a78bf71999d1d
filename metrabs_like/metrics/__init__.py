"""Pose metrics; each names its protocol."""
