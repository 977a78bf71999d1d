"""MeTRAbs-style absolute 3D pose."""
