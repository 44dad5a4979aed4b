"""Deep pulls: one search whose next results are asked for again and again, on nextk and on other ways to do that.

All of them use one thread. Numerical libraries read the environment when they are imported, so it is set before.
"""

import os

os.environ |= dict.fromkeys(
    (
        "LANCE_CPU_THREADS",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "TOKIO_WORKER_THREADS",
    ),
    "1",
)
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # kernels for other processors
    os.environ.pop(name, None)
