"""Bounds from a range test: pure functions of arrays. Standard library and NumPy only."""

from cyclr import _names
from cyclr.bounds.base import Bounds
from cyclr.bounds.classic import suggest
from cyclr.bounds.curve import Curve, smooth
from cyclr.bounds.knee import knee

__all__ = ["Bounds", "Curve", "knee", "smooth", "suggest"]

_names.Package.adopt(__name__)
