"""One folder per pose system."""
