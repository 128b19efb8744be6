"""Textual Inversion in notebooks: from a few pictures learn a new word of a frozen text-to-image model.

Heavy imports wait until they are needed: `import ti_nb` loads none of torch, diffusers or transformers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
