"""Bad peers, and processes that are killed, stopped or stuck in every phase of a join, on both sides.

What must hold every time: no wrong weights are reported as received, nothing waits for ever, and the next
good joiner is served. docs/netloader-faults.md names these tests row by row.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ascendctl.netloader.engine import source as source_module
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.joining import NoSource
from ascendctl.netloader.engine.links.rendezvous import hosted_store
from tests.e2e.engine import actors, places
from tests.e2e.engine.engines import IDENTITY, MIB, SHORT, Joiner, Seed, eventually

TOKEN = "the token of the site"
LETS_GO_WITHIN_S = 60.0
"""Beyond the sum of a session's deadlines with `SHORT`; a service that is there after that hangs."""


@pytest.fixture(scope="module")
def seed() -> Iterator[Seed]:
    with Seed() as seed:
        yield seed


def served(seed: Seed) -> None:
    """The next good joiner gets everything."""
    joiner = Joiner()
    received = joiner.receive(seed.address)
    assert received.verified and received.attempts == ()
    assert joiner.digest == seed.digest


def connected(address: Address) -> socket.socket:
    sock = socket.create_connection((address.host, address.port), 10)
    sock.settimeout(30)
    return sock


def reset(sock: socket.socket) -> None:
    """Closes with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def everything_from(sock: socket.socket) -> bytes:
    """What it sends until it closes; fails the test where it does neither."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return data


def join_bytes(port: int = 9, **content: Any) -> bytes:
    fields = {
        "device_id": 0,
        "model_path": "/m/tiny",
        "tp": 1,
        "pp": 1,
        "port": port,
        "group_name": "netloader",
        "int8_cache": "no",
        **content,
    }
    return json.dumps({"label": "JOIN", "content": fields}).encode()


def extension(**fields: Any) -> dict[str, Any]:
    return {"v": 1, "id": IDENTITY.digest, "links": ["gloo"], "n": "ab" * 16, **fields}


# What may come instead of a JOIN ----------------------------------------------------------------------


def test_f1_connections_that_say_nothing(seed: Seed) -> None:
    silent = [connected(seed.address) for _ in range(40)]
    served(seed)
    for sock in silent:
        everything_from(sock)  # returns: the source closed it
        sock.close()
    eventually(lambda: seed.source.services == 0, "silent connections are let go", LETS_GO_WITHIN_S)


def test_f1_a_silent_connection_gives_way_when_there_are_too_many(
    seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "_MOST_CONNECTIONS", 8)
    silent = [connected(seed.address) for _ in range(24)]
    served(seed)
    for sock in silent:
        sock.close()
    eventually(lambda: seed.source.services == 0, "silent connections are let go", LETS_GO_WITHIN_S)


@pytest.mark.parametrize("with_extension", [False, True], ids=["legacy", "new"])
def test_f2_joins_whose_sender_is_gone(seed: Seed, with_extension: bool) -> None:
    content = {"ascendctl": extension()} if with_extension else {}
    for _ in range(10):
        sock = connected(seed.address)
        sock.sendall(join_bytes(**content))
        sock.close()
    served(seed)
    eventually(lambda: seed.source.services == 0, "stale joins are let go", SHORT.link_s / 2)


@pytest.mark.parametrize("with_extension", [False, True], ids=["legacy", "new"])
def test_f2_a_joiner_that_stays_but_never_opens_its_store(seed: Seed, with_extension: bool) -> None:
    content = {"ascendctl": extension()} if with_extension else {}
    sock = connected(seed.address)
    sock.sendall(join_bytes(**content))
    assert b"JOIN_ACK" in sock.recv(4096)
    served(seed)
    everything_from(sock)
    sock.close()
    eventually(lambda: seed.source.services == 0, "the source lets go", LETS_GO_WITHIN_S)


def test_f2_a_joiner_whose_store_is_there_and_nobody_behind_it(seed: Seed) -> None:
    hosted = hosted_store("127.0.0.1", 30.0)
    sock = connected(seed.address)
    sock.sendall(join_bytes(hosted.port))
    assert b"JOIN_ACK" in sock.recv(4096)
    served(seed)
    eventually(lambda: seed.source.services == 0, "the source lets go", LETS_GO_WITHIN_S)
    sock.close()
    hosted.close()


NONSENSE = {
    "not UTF-8": b'{"label": "\xff\xfe"}',
    "not JSON": b"GET / HTTP/1.1\r\n\r\n",
    "a list": b"[1, 2, 3]",
    "nested": b'{"a":' * 200 + b"1" + b"}" * 200,
    "device_id is text": join_bytes(device_id="abc"),
    "tp is null": join_bytes(tp=None),
    "port is beyond": join_bytes(port=70000),
    "no content": b'{"label": "JOIN"}',
    "another label": b'{"label": "LEAVE", "content": {}}',
    "extension is text": join_bytes(ascendctl="yes"),
    "extension of another version": join_bytes(ascendctl={"v": 2}),
    "a nonce of one byte": join_bytes(ascendctl=extension(n="ab")),
    "relay is a name": join_bytes(ascendctl=extension(relay="me")),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_f3_nonsense_is_refused_with_words(seed: Seed, name: str) -> None:
    with connected(seed.address) as sock:
        sock.sendall(NONSENSE[name])
        assert b"JOIN_NACK" in everything_from(sock)
    served(seed)


def test_f3_resets_at_every_byte_of_a_join(seed: Seed) -> None:
    data = join_bytes(ascendctl=extension())
    for cut in range(0, len(data) + 1, 7):
        sock = connected(seed.address)
        sock.sendall(data[:cut])
        reset(sock)
    served(seed)
    eventually(lambda: seed.source.services == 0, "reset connections are let go", LETS_GO_WITHIN_S)


def test_f4_a_join_that_is_too_long_is_refused_with_words(seed: Seed) -> None:
    with connected(seed.address) as sock:
        sock.sendall(join_bytes(model_path="/m" * 600))
        answer = everything_from(sock)
    assert b"JOIN_NACK" in answer and b"1024" in answer
    served(seed)


def test_f4_a_join_in_many_segments_is_a_join(seed: Seed) -> None:
    with connected(seed.address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in join_bytes(ascendctl=extension()):
            sock.sendall(bytes([byte]))
            time.sleep(0.001)
        assert b"JOIN_ACK" in sock.recv(4096)
    served(seed)


def test_frames_that_are_none(seed: Seed) -> None:
    for frame in (
        b"\xff" * 64,
        struct.pack(">I", 10) + b"not a json",
        struct.pack(">I", 4) + b"[{}]",
        b"\0\0",
    ):
        sock = connected(seed.address)
        sock.sendall(join_bytes(ascendctl=extension()))
        assert b"JOIN_ACK" in sock.recv(4096)
        sock.sendall(frame)
        sock.shutdown(socket.SHUT_WR)
        everything_from(sock)
        sock.close()
    served(seed)


def test_frames_out_of_turn_and_out_of_range(seed: Seed) -> None:
    def frame(label: str, **content: Any) -> bytes:
        body = json.dumps({"label": label, "content": content}).encode()
        return struct.pack(">I", len(body)) + body

    identity = frame("IDENTITY", **IDENTITY.to_json())
    for frames in (
        frame("DONE"),
        frame("IDENTITY"),
        frame("READY", first_chunk=0),
        identity + frame("READY", first_chunk=10**9),
        identity + frame("READY", first_chunk=-1),
        identity + frame("READY", first_chunk=True),
        identity + frame("READY"),
        identity + frame("DONE"),
        frame("AVAILABLE", upto="all"),
        frame("KEEPALIVE") * 1000 + frame("ABORT", reason="x" * 10000),
        frame("PROOF") * 1000,
    ):
        with connected(seed.address) as sock:
            sock.sendall(join_bytes(ascendctl=extension()) + frames)
            everything_from(sock)
    served(seed)
    eventually(lambda: seed.source.services == 0, "the source lets go", LETS_GO_WITHIN_S)


def test_f9_another_model_string_of_an_old_peer_is_refused_in_its_words(seed: Seed) -> None:
    with connected(seed.address) as sock:
        sock.sendall(join_bytes(model_path="/m/tiny/"))
        told = json.loads(everything_from(sock))
    words = "Received data (0, '/m/tiny/', 1, 1) does not consist with this server (0, '/m/tiny', 1, 1)"
    assert told == {"label": "JOIN_NACK", "content": words}


def test_f18_with_a_token_a_peer_without_the_extension_gets_nothing() -> None:
    with Seed(token=TOKEN) as seed, connected(seed.address) as sock:
        sock.sendall(join_bytes())
        assert b"JOIN_NACK" in everything_from(sock)
        assert seed.source.tally.bytes == 0


# What may come instead of a source --------------------------------------------------------------------


def ack(**fields: Any) -> bytes:
    content = {"name": "127.0.0.1:1", "ascendctl": {"v": 1, **fields}}
    return json.dumps({"label": "JOIN_ACK", "content": content}).encode()


ANSWERS = {
    "closes": b"",
    "not JSON": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a list": b"[]",
    "half an answer": b'{"label": "JOIN_ACK", "cont',
    "no name": b'{"label": "JOIN_ACK", "content": {}}',
    "another version": ack(v=9),
    "an unknown link": ack(link="x"),
    "a redirect to nowhere": ack(redirect=["127.0.0.1:1"]),
    "frames of noise": ack(link="gloo") + b"\x7f" * 99,
    "silence": None,
    "silence after the answer": ack(link="gloo"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_source_that_is_none_costs_its_deadline_only(seed: Seed, name: str) -> None:
    answer = ANSWERS[name]
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pretend() -> None:
            # A second connection may come: the joiner asks again after a redirect that failed.
            for _ in range(2):
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock, contextlib.suppress(OSError):
                    if answer is not None:
                        sock.sendall(answer)
                    if answer is None or name == "silence after the answer":
                        ended.wait(60)

        thread = threading.Thread(target=pretend, daemon=True)
        thread.start()
        false = Address("127.0.0.1", listener.getsockname()[1])
        joiner = Joiner(timeouts={"join_s": 2.0, "chunk_s": 3.0})
        received = joiner.receive(false, seed.address)
        ended.set()
        assert received.source == str(seed.address) and len(received.attempts) >= 1
        assert joiner.digest == seed.digest


# Processes that end, stop or get stuck ------------------------------------------------------------------

FATES = ("killed", "stopped", "stuck")


def meet(fate: str, actor: actors.Actor) -> None:
    if fate == "killed":
        actor.kill()
    elif fate == "stopped":
        actor.stop()


@pytest.mark.parametrize("fate", FATES)
def test_joiners_in_every_phase(fate: str) -> None:
    """One seed process, one joiner in each phase at the same time; then a good one."""
    options = {"token": TOKEN}
    with contextlib.ExitStack() as stack:
        seed = stack.enter_context(actors.seed(options=options))
        address = seed.event("listening")["address"]
        victims = [
            stack.enter_context(actors.joiner([address], hold=place, options=options))
            for place in places.JOINER
        ]
        for victim in victims:
            victim.event("held")
            meet(fate, victim)
        good = Joiner(token=TOKEN)
        received = good.receive(address)
        assert received.verified and received.attempts == ()
        assert good.digest == seed.ask("digest")["digest"]
        eventually(
            lambda: seed.ask("tally")["services"] == 0,
            f"the seed lets go of {fate} joiners",
            LETS_GO_WITHIN_S,
        )
        again = Joiner(token=TOKEN)
        again.receive(address)
        assert again.digest == good.digest
        if fate != "stopped":
            return
        # Those that go on find that the source let them go: they fail, or begin again and succeed.
        for victim in victims:
            victim.go_on()
            victim.tell("release")
            last = victim.event("received", "failed")
            assert last["event"] == "failed" or last["digest"] == good.digest


@pytest.mark.parametrize("fate", FATES)
def test_sources_in_every_phase(fate: str, seed_with_token: Seed) -> None:
    """One seed process in each phase at the same time, each with a joiner that has a good seed as well."""
    options = {"token": TOKEN}
    with contextlib.ExitStack() as stack:
        victims = [stack.enter_context(actors.seed(hold=place, options=options)) for place in places.SOURCE]
        addresses = [victim.event("listening")["address"] for victim in victims]
        joiners = [Joiner(token=TOKEN, timeouts={"join_s": 4.0, "chunk_s": 6.0}) for _ in victims]
        with ThreadPoolExecutor(len(victims)) as pool:
            running = [
                pool.submit(joiner.receive, address, seed_with_token.address)
                for joiner, address in zip(joiners, addresses, strict=True)
            ]
            for victim in victims:
                victim.event("held")
                meet(fate, victim)
            results = [future.result(LETS_GO_WITHIN_S) for future in running]
        for place, joiner, received in zip(places.SOURCE, joiners, results, strict=True):
            assert joiner.digest == seed_with_token.digest, place
            assert received.verified, place
            if place == "done":
                assert received.attempts == ()  # everything had arrived
            else:
                assert received.source == str(seed_with_token.address), place
                assert len(received.attempts) >= 1, place


@pytest.fixture
def seed_with_token() -> Iterator[Seed]:
    with Seed(token=TOKEN) as seed:
        yield seed


@pytest.mark.parametrize("fate", FATES)
def test_the_only_source_lost_in_the_middle_is_a_failure_and_never_a_success(fate: str) -> None:
    with actors.seed(hold="wire:5") as victim:
        joiner = Joiner(timeouts={"chunk_s": 4.0, "join_s": 3.0})
        address = victim.event("listening")["address"]
        failed: list[NoSource] = []

        def receive() -> None:
            try:
                joiner.receive(address)
            except NoSource as error:
                failed.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        victim.event("held")
        meet(fate, victim)
        if fate == "stuck":
            # The process lives and serves a second attempt: that one brings the rest.
            thread.join(LETS_GO_WITHIN_S)
            assert not thread.is_alive() and not failed
            assert joiner.digest == victim.ask("digest")["digest"]
            return
        thread.join(LETS_GO_WITHIN_S)
        assert not thread.is_alive()
        assert failed and failed[0].attempts[0].phase == "wire"


def test_a_connection_cut_in_the_middle_of_the_wire() -> None:
    """A router between the two control ends that drops the connection; the link's own is not touched."""
    with Seed(bandwidth_bytes_s=6.0 * MIB) as seed, _Cut(seed.address) as cut:
        joiner = Joiner()
        thread = threading.Thread(target=cut.after, args=(lambda: seed.source.tally.chunks >= 3,))
        thread.start()
        received = joiner.receive(cut.address, seed.address)
        thread.join(10)
        assert received.verified and [a.phase for a in received.attempts] == ["wire"]
        assert joiner.digest == seed.digest


class _Cut:
    """Forwards one connection to ``target`` until told to reset both of its ends."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self._ends: list[socket.socket] = []
        self._ready = threading.Event()

    def __enter__(self) -> _Cut:
        threading.Thread(target=self._forward, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.close()

    def after(self, holds: Any) -> None:
        eventually(holds, "the wire is busy")
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)

    def _forward(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection((self._target.host, self._target.port))
        self._ends += [near, far]
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
