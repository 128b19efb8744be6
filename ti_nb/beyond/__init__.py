"""What goes beyond one word of a frozen model: a word for each layer, a LoRA around a word. Knows nothing of drawing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
