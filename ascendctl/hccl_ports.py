"""Where HCCL listens on a host. Imports nothing: the engine, inside vLLM, takes it from here too."""

from __future__ import annotations

HCCL_HOST_PORTS = range(60_000, 60_032)
"""32 TCP ports from HCCL_IF_BASE_PORT on, which is 60000 unless set (CANN's environment variable reference),
and unless HCCL_HOST_SOCKET_PORT_RANGE names others."""
