"""A `Concept` is a word and its vectors: made, used in prompts, edited, loaded into a pipeline. Knows no disk and no network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
