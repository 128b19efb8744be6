from .layers import LayeredModel as LayeredModel
from .layers import by_layer as by_layer
from .lora import Tuned as Tuned
from .lora import tune as tune
