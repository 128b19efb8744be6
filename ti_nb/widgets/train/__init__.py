"""The panel that drives a run and shows what it does."""
