"""The model alone, on pixels that are ready in memory: what no way with this form of the model can exceed.

The main thread does nothing else. The first batch is a warm-up: the watch's first note does not count.
"""

import numpy as np
import toolz

from benchmarks.ways.classifier import classifier
from benchmarks.ways.command import BATCH_SIZE, COMPILED, MODEL, Task, Watch, command
from pipeline.engine.allocator import mend_allocator
from pipeline.stages.architectures import transform_of


def classify(task: Task, watch: Watch, is_compiled: bool) -> None:
    """Classify N times random pixels, in batches of 80."""
    mend_allocator()
    model = classifier(task.weights, is_compiled=is_compiled)
    side = transform_of(MODEL, task.weights).crop_size
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, side, side, 3), np.uint8).transpose(0, 3, 1, 2)
    model(pixels)
    watch.classified(0)
    for numbers in toolz.partition_all(BATCH_SIZE, range(task.limit)):
        model(pixels[: len(numbers)])
        watch.classified(len(numbers))


main = command(classify, COMPILED)

if __name__ == "__main__":
    main()
