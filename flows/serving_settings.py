"""The settings that our Prefect server, workers and clients run with: one place, safe by default.

Nothing here imports Prefect: settings are environment variables, to be set before it is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from pipeline.errors import ConfigError

PORT = 4200
LOOPBACK = "127.0.0.1"
HEARTBEAT_SECONDS = 30
"""How often a run says that it is alive; the least that Prefect allows."""
FOLDER = "T4C_FOLDER"
"""Variable that tells a worker's runs which folder the paths of a configuration are taken from."""
AUTH = "PREFECT_SERVER_API_AUTH_STRING"


def client_settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what everything that talks to a server is set to: workers, runs, `t4c deploy`.

    Where the server is (`PREFECT_API_URL`) and where state is kept (`PREFECT_HOME`) may be set
    beforehand; else they are this machine and `.prefect` in this folder. So may what says who one
    is (`PREFECT_API_AUTH_STRING`), which is passed on and never written anywhere.
    """
    return {
        "PREFECT_API_URL": environ.get("PREFECT_API_URL") or f"http://{LOOPBACK}:{PORT}/api",
        "PREFECT_HOME": environ.get("PREFECT_HOME") or str(Path.cwd() / ".prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # no server means no server
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # never a pickle
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # of the server
        "DO_NOT_TRACK": "1",  # of the client
        FOLDER: environ.get(FOLDER) or str(Path.cwd()),
    }


def server_settings(
    port: int = PORT, host: str = LOOPBACK, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return what our server is set to.

    A page of any other origin may neither read from it nor write to it. Beyond loopback it is
    bound only with a password, because whoever may write to it may run commands on its workers.

    Raises:
        ConfigError: `host` is not loopback, and nothing asks who calls.
    """
    if not _loopback(host) and not environ.get(AUTH):
        raise ConfigError(f"--host {host}: not loopback, expected {AUTH}=user:password to be set")
    origins = {f"http://{_in_url(name)}:{port}" for name in (host, LOOPBACK, "localhost")}
    url = f"http://{LOOPBACK if _any(host) else _in_url(host)}:{port}/api"
    return {
        **client_settings(environ),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": environ.get("PREFECT_UI_API_URL") or url,  # as browsers reach it
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(sorted(origins)),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    """Return a host as a URL has it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def _any(host: str) -> bool:
    return host in {"0.0.0.0", "::"}
