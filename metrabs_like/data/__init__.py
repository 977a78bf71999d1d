"""Records, readers, pipelines."""
