"""The panel to choose, crop and caption photographs, and to choose the word."""
