"""How many threads a framework may use in a worker process: settled by its environment, before it is imported."""

import os


def environment(threads: int) -> dict[str, str]:
    """Environment variables that limit TensorFlow, torch, JAX and the BLAS libraries to so many threads.

    Args:
        threads: threads for the operations of one worker, ≥ 1.
    """
    count = str(threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    # XLA on a CPU knows one thread or all of them.
    flags = os.environ.get("XLA_FLAGS", "")
    one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return {
        **dict.fromkeys(names, count),
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        "XLA_FLAGS": f"{flags} {one}".strip() if threads == 1 and one not in flags else flags,
    }
