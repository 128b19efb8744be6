"""Panels of stock ipywidgets (7.7 and 8) on top of the package's functions; nothing below imports them."""
