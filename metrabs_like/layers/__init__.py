"""Keras layers that more than one system uses."""
