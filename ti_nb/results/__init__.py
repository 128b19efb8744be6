"""Draw with a word, judge it, look inside it, plot it. Knows nothing of widgets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
