from .explore.panel import ExplorePanel as ExplorePanel
from .prepare.panel import PreparePanel as PreparePanel
from .publish.panel import PublishPanel as PublishPanel
from .train.panel import TrainPanel as TrainPanel
from .train.summary import Summary as Summary
