"""A `Run` is an iterator: each iteration does one optimiser step and returns its record. Knows nothing of widgets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
