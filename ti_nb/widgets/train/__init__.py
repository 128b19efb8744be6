"""The panel that drives a run and shows its progress."""
