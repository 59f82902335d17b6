"""Small images of handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np

from kerasnac.core.checks import Seed, checked
from kerasnac.core.data.dataset import Dataset, Task, make_dataset
from kerasnac.core.network.precision import Precision
from kerasnac.datasets.files import optional
from kerasnac.datasets.options import Fractions, InputBits

#: Brightest pixel of the images; the darkest is 0, and all are whole numbers.
BRIGHTEST = 16


@checked
def digits(seed: Seed = 0, *, fractions: Fractions = (0.7, 0.15, 0.15), input_bits: InputBits = 5) -> Dataset:
    """Load images of 8 x 8 pixels with one handwritten digit each; the task is to read it.

    The 1,797 images are those of ``sklearn.datasets.load_digits``, the test part of Alpaydin and Kaynak, "Optical
    recognition of handwritten digits", UCI Machine Learning Repository. Nothing is downloaded.

    Args:
        seed: Seed of the random split.
        fractions: Train, validation and test fractions; must add up to 1.
        input_bits: Width of the unsigned input grid, one of them left of the binary point. 5 bits hold all
            brightnesses exactly; fewer round them.

    Returns:
        Samples of shape (8, 8, 1): brightness from 0 to 1 in steps of 1/16; ten classes.

    Raises:
        ConfigError: If ``input_bits`` is not positive.
        EnvironmentProblem: If scikit-learn is not installed.
    """
    images, labels = optional("sklearn.datasets", "scikit-learn").load_digits(return_X_y=True)
    return make_dataset(
        images.reshape(-1, 8, 8, 1) / BRIGHTEST,
        labels,
        name="digits",
        task=Task("classification", 10, names=tuple(map(str, np.unique(labels)))),
        seed=seed,
        fractions=fractions,
        input_grid=Precision(input_bits, 1, signed=False),
    )
