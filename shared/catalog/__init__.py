"""What can be run, as the API told us: our copy of its deployments, workflows, machines and versions.

The API is the truth. A copy is given at once, also when it is older than it should be, and then says so; up to a day while
the API is down. Begin with `freshness.py` (how long), then `renewal.py` (who reads it anew, who waits), `shelf.py` (where
it lies), `index.py` (which name means which deployment), `upstream.py` (what is asked), `catalog.py` (what it is for).
"""

from shared.catalog.catalog import Catalog
from shared.catalog.copy import Copy
from shared.catalog.entries import Entry

__all__ = ["Catalog", "Copy", "Entry"]
