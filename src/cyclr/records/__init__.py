"""The records of a run's trials, the folder that holds them, and statistics over them."""

from cyclr import _names
from cyclr.records.estimates import Interval, band, interval
from cyclr.records.folder import RunFolder, read_records
from cyclr.records.measures import best, final, is_fixed, steps_to, tradeoff
from cyclr.records.record import Record
from cyclr.records.statistics import Group, Row, Summary, summarize, write_csv

__all__ = [
    "Group",
    "Interval",
    "Record",
    "Row",
    "RunFolder",
    "Summary",
    "band",
    "best",
    "final",
    "interval",
    "is_fixed",
    "read_records",
    "steps_to",
    "summarize",
    "tradeoff",
    "write_csv",
]

_names.Package.adopt(__name__)
