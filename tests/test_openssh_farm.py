"""What the tests' own OpenSSH servers say of their connections is read for what it is."""

from __future__ import annotations

from tests.openssh import _Client, _clients


def test_two_hosts_reached_from_one_client_port_count_each_their_own() -> None:
    """The kernel gives a port to two connections at a time when they lead to different addresses."""
    text = """\
Server listening on 127.79.0.1 port 22.
Connection from 127.0.0.1 port 40000 on 127.79.0.1 port 22 rdomain ""
Accepted publickey for root from 127.0.0.1 port 40000 ssh2: ED25519 SHA256:x
Connection from 127.0.0.1 port 40000 on 127.79.0.2 port 23 rdomain ""
Starting session: command for root from 127.0.0.1 port 40000 id 0
Accepted publickey for root from 127.0.0.1 port 40000 ssh2: ED25519 SHA256:x
Starting session: command for root from 127.0.0.1 port 40000 id 0
Connection from 127.0.0.1 port 40001 on 127.79.0.2 port 23 rdomain ""
drop connection #3 from [127.0.0.1]:40002 on [127.79.0.1]:22 past MaxStartups
Accepted publickey for root from 127.0.0.1 port 40001 ssh2: ED25519 SHA256:x
Starting session: command for root from 127.0.0.1 port 40001 id 0
Starting session: command for root from 127.0.0.1 port 40001 id 1
"""
    assert _clients(text) == [
        _Client("127.79.0.1", 22, logins=1, execs=1),
        _Client("127.79.0.2", 23, logins=1, execs=1),
        _Client("127.79.0.2", 23, logins=1, execs=2),
    ]
