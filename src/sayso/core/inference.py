"""How every network is run: by onnxruntime, on a fixed number of threads that sleep while they wait.

Many streams share one process, and a spinning thread takes the processor from its neighbour.
"""

from __future__ import annotations

from typing import Any

import onnxruntime as ort  # type: ignore[import-untyped]


def session_options(threads: int = 1) -> Any:
    """Settings of every session: ``threads`` threads in all, sequential, no spinning, quiet."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # it keeps what its largest batch took: 1.6 MB for each stream of that
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
