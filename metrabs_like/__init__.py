"""Metric-scale 3D human pose with TensorFlow and Keras.

Import the part you need, e.g. `from metrabs_like.systems import metrabs` or
`from metrabs_like import geometry`; importing the root alone stays cheap.
"""

__version__ = "0.1.0"
