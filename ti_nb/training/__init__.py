"""A `Run` does one optimiser step a turn and says what it did. Knows nothing of widgets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
