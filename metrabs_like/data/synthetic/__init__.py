"""Procedural people with exact annotations."""
