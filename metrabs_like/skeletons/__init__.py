"""Joint sets as frozen data."""
