"""Members of a run: its weights at the ends of cycles, for ensembles and averages. Needs only NumPy."""

from cyclr import _names
from cyclr.members.member import Member

__all__ = ["Member"]

_names.Package.adopt(__name__)
