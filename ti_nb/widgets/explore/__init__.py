"""The panel to try a word in prompts."""
