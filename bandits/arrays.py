"""Array types of the room, one name each."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
ServingArray = NDArray[np.float32]
"""Copies to score with; whatever is stored, logged or learnt from is float64."""
