"""A word in a file of any program, out and in, nothing in it run. Knows nothing of the network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
