"""Array aliases shared by the models of this room."""

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
VectorArray = NDArray[np.float32]
"""Embedding vectors: single precision, as hnswlib stores them."""
