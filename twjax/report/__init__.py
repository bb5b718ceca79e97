"""The report of one run, or of several side by side: one HTML file that needs no network.

`read` turns a run directory into columns, `summary` says what was learnt and forgotten,
`scale` and `chart` draw, `page` assembles the file.
"""

from twjax.report.page import write_report
from twjax.report.summary import Roles

__all__ = ["Roles", "write_report"]
