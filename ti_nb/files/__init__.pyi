from .reading import load as load
from .reading import load_words as load_words
from .writing import save as save
