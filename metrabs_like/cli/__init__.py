"""Command-line programs; the only place that reads flags."""
