"""Many words: a `Job` says what to learn, `train_many` learns them all on whatever engine there is."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
