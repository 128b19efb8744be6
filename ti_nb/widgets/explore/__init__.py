"""The panel in which a word is tried in prompts."""
