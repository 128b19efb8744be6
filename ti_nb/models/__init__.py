"""A frozen text-to-image model: what it is, how a prompt enters it, what it computes. Knows nothing of words."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
