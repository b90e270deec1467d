"""A simulated cluster behind real SSH: files, keys, servers and inventory, as one context manager.

```python
with SimCluster(make_spec(generation="a2", hosts=8)) as sim:
    run(["ascendctl", "verify", "--inventory", str(sim.inventory_path)])
```
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from ascendctl.sim.render import RenderedHost, render_cluster
from ascendctl.sim.server import USER, Counts, Listening, SshServer, highest_open_files_limit
from ascendctl.sim.spec import Spec

WANTED_OPEN_FILES = 65_535  # what vLLM asks for when it starts


class SimCluster:
    """A cluster that runs from ``__enter__`` to ``__exit__``.

    ``inventory_path``: where to write the inventory; None = in the cluster's own folder. The file
    written elsewhere is left there at the end, as its reader's to keep; all else is removed.
    ``one_address``: hosts differ by port on 127.0.0.1, for systems with a single loopback address.
    Entering raises OSError where it cannot listen or write.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        inventory_path: Path | None = None,
        one_address: bool = False,
        port: int = 0,
    ) -> None:
        self.spec = spec
        self._wanted_inventory = inventory_path
        self._one_address = one_address
        self._port = port
        self._directory: Path | None = None
        self._server: SshServer | None = None
        self.hosts: tuple[RenderedHost, ...] = ()

    def __enter__(self) -> SimCluster:
        directory = Path(tempfile.mkdtemp(prefix="ascendctl-sim-"))  # mkdtemp makes it 0700
        self._directory = directory
        try:
            self.hosts = render_cluster(self.spec, directory / "hosts")
            client_key, *host_keys = _keys(directory / "client_key", len(self.hosts))
            self._server = SshServer(
                self.hosts,
                tuple(host_keys),
                client_key,
                one_address=self._one_address,
                port=self._port,
            )
            self.known_hosts_path.write_text(_known_hosts(self._server.listening), encoding="ascii")
            self.inventory_path.write_text(self._inventory(), encoding="utf-8")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the servers and every process they started, and remove the cluster's folder."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    @property
    def directory(self) -> Path:
        if self._directory is None:
            raise RuntimeError("the simulated cluster is not running")
        return self._directory

    @property
    def inventory_path(self) -> Path:
        return self._wanted_inventory or self.directory / "inventory.yaml"

    @property
    def identity_path(self) -> Path:
        """The private key that every host lets in."""
        return self.directory / "client_key"

    @property
    def known_hosts_path(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def counts(self) -> dict[str, Counts]:
        """By host name: connections taken and commands run so far."""
        return self._running.counts

    @property
    def listening(self) -> tuple[Listening, ...]:
        """Address and port of every host, in the order of ``hosts``."""
        return self._running.listening

    @property
    def _running(self) -> SshServer:
        if self._server is None:
            raise RuntimeError("the simulated cluster is not running")
        return self._server

    def _inventory(self) -> str:
        ssh: dict[str, Any] = {
            "user": USER,
            "identity": str(self.identity_path),
            "known_hosts": str(self.known_hosts_path),
            "config": False,
        }
        if not self._one_address:
            ssh["port"] = self.listening[0].port
        defaults: dict[str, Any] = {"ssh": ssh, "privilege": "root", "generation": self.spec.generation}
        # A limit that this machine lets no process reach would make every simulated host a finding.
        highest = highest_open_files_limit()
        if highest < WANTED_OPEN_FILES:
            defaults["thresholds"] = {"open-files-min": highest}
        hosts: list[dict[str, Any]] = []
        for each in self.listening:
            host: dict[str, Any] = {"name": each.host.name, "address": each.address}
            if self._one_address:
                host["ssh"] = {"port": each.port}
            hosts.append(host)
        document = {"version": 1, "defaults": defaults, "hosts": hosts}
        heading = "# A simulated cluster; it is there for as long as the simulator runs.\n"
        return heading + yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=200)


def _keys(client_path: Path, hosts: int) -> list[Any]:
    """A client key, written to ``client_path`` (0600) with its public half beside, and the hosts' keys."""
    import io

    import paramiko
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    keys = []
    for number in range(hosts + 1):
        private = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
        )
        keys.append(paramiko.Ed25519Key.from_private_key(io.StringIO(private.decode("ascii"))))
        if number == 0:
            client_path.touch(mode=0o600)
            client_path.write_bytes(private)
            public = f"{keys[0].get_name()} {keys[0].get_base64()} {USER}\n"
            client_path.with_name(client_path.name + ".pub").write_text(public, encoding="ascii")
    return keys


def _known_hosts(listening: tuple[Listening, ...]) -> str:
    return "".join(
        f"[{each.address}]:{each.port} {each.key.get_name()} {each.key.get_base64()}\n" for each in listening
    )
