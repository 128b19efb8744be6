"""Publishes words to the Hugging Face Hub and fetches them; sends nothing unasked. Knows nothing of widgets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
