"""Draw the front page's range test: the classic CNN of Keras' tutorials with Adam, on scanned digits.

python docs/figures/range_test.py FOLDER
"""

import sys
from pathlib import Path

import keras
import matplotlib.pyplot as plt

from cyclr.experiments.data import load
from cyclr.experiments.workloads import classic_cnn
from cyclr.keras import range_test


def main() -> None:
    keras.utils.set_random_seed(0)
    data = load("digits")
    model = classic_cnn(data.input_shape, data.classes)
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    result = range_test(model, data.x_train, data.y_train, batch_size=50)
    # Narrow, so that the words can be read on a phone too.
    with plt.rc_context({"figure.figsize": (5.6, 4)}):
        result.plot().figure.savefig(Path(sys.argv[1]) / "range_test.png", dpi=150)


if __name__ == "__main__":
    main()
