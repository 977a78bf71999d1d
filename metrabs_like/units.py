"""Named conversion constants; everything inside the library is in metres, pixels and radians."""

MM_PER_M = 1000.0
M_PER_MM = 1e-3
