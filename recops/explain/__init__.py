"""What a trained model looked at, as arrays and pictures.

`recops.explain` is the function; this package is what stands behind it.
"""

from recops.explain.explanation import Explanation, explain
from recops.explain.weights import Weights

__all__ = ["Explanation", "Weights", "explain"]
