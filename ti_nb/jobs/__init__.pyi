from .driver import train_many as train_many
from .engines.processes import processes as processes
from .job import Job as Job
from .shelf import JobResult as JobResult
from .tables import jobs_from as jobs_from
