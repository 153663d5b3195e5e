"""Models as programs that run where recops is not: SavedModel and ONNX.

`recops.export` is the function; this package is what stands behind it.
"""

from recops.export.exporting import FORMATS, export
from recops.export.report import Report

__all__ = ["FORMATS", "Report", "export"]
