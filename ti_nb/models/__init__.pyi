from .conditioning import Conditioning as Conditioning
from .families import needs as needs
from .loading import from_pipeline as from_pipeline
from .loading import load_model as load_model
from .model import TINY as TINY
from .model import Model as Model
from .model import TextEncoder as TextEncoder
from .tokens import check_word as check_word
