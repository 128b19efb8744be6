"""The panel in which photographs are chosen, cropped and named."""
