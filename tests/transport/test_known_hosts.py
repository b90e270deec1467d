"""known_hosts: the format's corners, as sshd(8) describes it."""

from __future__ import annotations

import base64
import errno
import fcntl
import hmac
import re
import subprocess
import threading
from pathlib import Path

import pytest

from ascendctl.transport.known_hosts import HostKey, KnownHosts, Trust

ED = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519 one")
ED2 = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519 two")
RSA = HostKey("ssh-rsa", b"\0\0\0\x07ssh-rsa three")


def line(names: str, key: HostKey, marker: str = "") -> str:
    return f"{marker} {names} {key.key_type} {base64.b64encode(key.blob).decode()} comment".strip()


def hashed(name: str) -> str:
    salt = b"12345678901234567890"
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


CASES = {
    # lines, host, port, key shown: verdict, line that decided
    "plain": ([line("node01", ED)], "node01", 22, ED, Trust.KNOWN, 1),
    "case": ([line("Node01", ED)], "NODE01", 22, ED, Trust.KNOWN, 1),
    "list": ([line("node01,10.0.0.1", ED)], "10.0.0.1", 22, ED, Trust.KNOWN, 1),
    "absent": ([line("node02", ED)], "node01", 22, ED, Trust.UNKNOWN, None),
    "port": ([line("[node01]:2222", ED)], "node01", 2222, ED, Trust.KNOWN, 1),
    "port of another": ([line("[node01]:2222", ED)], "node01", 22, ED, Trust.UNKNOWN, None),
    "plain vouches for a port": ([line("node01", ED)], "node01", 2222, ED, Trust.KNOWN, 1),
    "plain does not accuse a port": ([line("node01", ED2)], "node01", 2222, ED, Trust.UNKNOWN, None),
    "port's own line wins": (
        [line("node01", ED), line("[node01]:2222", ED2)],
        "node01",
        2222,
        ED,
        Trust.CHANGED,
        2,
    ),
    "changed": (["# x", "", line("node01", ED2)], "node01", 22, ED, Trust.CHANGED, 3),
    "one of two": ([line("node01", ED2), line("node01", ED)], "node01", 22, ED, Trust.KNOWN, 2),
    "other type only": ([line("node01", RSA)], "node01", 22, ED, Trust.CHANGED, 1),
    "same type named first": ([line("node01", RSA), line("node01", ED2)], "node01", 22, ED, Trust.CHANGED, 2),
    "hashed": ([line(hashed("node01"), ED)], "node01", 22, ED, Trust.KNOWN, 1),
    "hashed port": ([line(hashed("[node01]:22022"), ED2)], "node01", 22022, ED, Trust.CHANGED, 1),
    "hashed other": ([line(hashed("node02"), ED)], "node01", 22, ED, Trust.UNKNOWN, None),
    "pattern": ([line("node*,!node02", ED)], "node01", 22, ED, Trust.KNOWN, 1),
    "negated": ([line("node*,!node02", ED)], "node02", 22, ED, Trust.UNKNOWN, None),
    "question mark": ([line("node0?", ED)], "node01", 22, ED, Trust.KNOWN, 1),
    "pattern with port": ([line("[10.0.0.*]:2222", ED)], "10.0.0.9", 2222, ED, Trust.KNOWN, 1),
    "a dot is a dot": ([line("10.0.0.*", ED)], "10.0x0.1", 22, ED, Trust.UNKNOWN, None),
    "revoked": ([line("node01", ED), line("*", ED, "@revoked")], "node01", 22, ED, Trust.REVOKED, 2),
    "revoked other": ([line("*", ED2, "@revoked")], "node01", 22, ED, Trust.UNKNOWN, None),
    "authority": ([line("*", RSA, "@cert-authority")], "node01", 22, ED, Trust.UNKNOWN, 1),
    "broken lines": (
        ["node01", "node01 ssh-ed25519 %%%", "@odd node01 x y", "|1|x", "\x00\xff", line("node01", ED)],
        "node01",
        22,
        ED,
        Trust.KNOWN,
        6,
    ),
    "address 6": ([line("[fe80::1]:2222", ED)], "fe80::1", 2222, ED, Trust.KNOWN, 1),
}


@pytest.mark.parametrize(
    ("lines", "host", "port", "shown", "trust", "number"), CASES.values(), ids=CASES.keys()
)
def test_verdicts(
    lines: list[str], host: str, port: int, shown: HostKey, trust: Trust, number: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("\n".join(lines), encoding="utf-8")
    verdict = KnownHosts().judge([tmp_path / "absent", path], host, port, shown)
    assert verdict.trust is trust
    assert (verdict.against.line if verdict.against else None) == number


def test_key_types_of_the_port_come_first(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("\n".join([line("node01", ED), line("[node01]:2222", RSA), line("*", ED, "@revoked")]))
    known = KnownHosts()
    assert known.key_types([path], "node01", 2222) == ["ssh-rsa", "ssh-ed25519"]
    assert known.key_types([path], "node01", 22) == ["ssh-ed25519"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    known = KnownHosts()
    assert known.judge([path], "node01", 22, ED).trust is Trust.UNKNOWN
    path.write_text(line("node01", ED))
    assert known.judge([path], "node01", 22, ED).trust is Trust.KNOWN


def test_a_file_that_cannot_be_opened_for_want_of_descriptors_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("node01", ED2))
    known = KnownHosts()

    def none_left(self: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", none_left)
        with pytest.raises(OSError, match="Too many"):
            known.judge([path], "node01", 22, ED)
    assert known.judge([path], "node01", 22, ED).trust is Trust.CHANGED


@pytest.mark.parametrize("hash_names", [False, True])
def test_accept_new_appends_a_whole_line_to_an_unfinished_file(tmp_path: Path, hash_names: bool) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("other", RSA))
    known = KnownHosts()
    assert known.accept_new([path], "Node01", 2222, ED, hashed=hash_names).trust is Trust.KNOWN
    assert known.accept_new([path], "node01", 2222, ED2).trust is Trust.CHANGED
    written = path.read_text().splitlines()
    assert len(written) == 2
    assert written[1].startswith("|1|" if hash_names else "[node01]:2222 ssh-ed25519 ")
    assert KnownHosts().judge([path], "node01", 2222, ED).trust is Trust.KNOWN


def test_a_key_stored_by_somebody_else_meanwhile_is_judged_and_not_stored_twice(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    said: list[Trust] = []
    with path.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        late = threading.Thread(
            target=lambda: said.append(KnownHosts().accept_new([path], "node01", 22, ED2).trust)
        )
        late.start()
        late.join(0.5)
        assert late.is_alive(), "it did not wait for the lock"
        other.write(line("node01", ED) + "\n")
    late.join(20)
    assert said == [Trust.CHANGED]
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.openssh
def test_fingerprints_and_hashed_names_are_those_of_openssh(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    key_type, blob = (tmp_path / "key.pub").read_text().split()[:2]
    key = HostKey(key_type, base64.b64decode(blob))
    told = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(tmp_path / "key.pub")], check=False, capture_output=True, text=True
    )
    assert re.search(r"SHA256:\S+", told.stdout)[0] == key.fingerprint  # type: ignore[index]
    path = tmp_path / "known_hosts"
    KnownHosts().accept_new([path], "node01", 2222, key, hashed=True)
    found = subprocess.run(
        ["ssh-keygen", "-F", "[node01]:2222", "-f", str(path)], check=False, capture_output=True, text=True
    )
    assert blob in found.stdout
