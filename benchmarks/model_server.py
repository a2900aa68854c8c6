"""llama.cpp's server with one model file; runs in the environment that real_model.py creates, which has xllamacpp.

python model_server.py MODEL.gguf PORT
"""

from __future__ import annotations

import sys
import threading

from xllamacpp import CommonParams, Server

SLOTS = 2
TOKENS_PER_SLOT = 4096


def main() -> None:
    """Serve until the process is killed."""
    params = CommonParams()
    params.model.path = sys.argv[1]
    params.model_alias = {"smollm2-135m-instruct"}
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[2])
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * TOKENS_PER_SLOT
    params.cache_ram_mib = 0  # otherwise it caches the state of every prompt, which takes gigabytes
    params.cpuparams.n_threads = 1
    server = Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
