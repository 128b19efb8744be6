from .browsing import Listing as Listing
from .browsing import browse as browse
from .client import log_in as log_in
from .fetching import fetch as fetch
from .publication import Publication as Publication
from .publishing import publish as publish
