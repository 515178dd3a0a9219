"""The verdict on a comparison in words, and the page of a run."""

from cyclr import _names
from cyclr.report.run import run_page
from cyclr.report.verdict import in_words

__all__ = ["in_words", "run_page"]

_names.Package.adopt(__name__)
