"""The verdict on a comparison in words, and the page of a run or a range test."""

from cyclr.report.verdict import in_words

__all__ = ["in_words"]
