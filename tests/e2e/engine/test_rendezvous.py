"""The store that the joiner hosts: one address, one port, and an end to every wait."""

from __future__ import annotations

import socket
import threading
import time

import pytest

torch = pytest.importorskip("torch", reason="needs torch (make test-e2e)")

from ascendctl.netloader.engine.links import rendezvous  # noqa: E402
from ascendctl.netloader.engine.links.contract import LinkBroken, LinkError, LinkTimeout  # noqa: E402
from tests.e2e.engine.link_ends import End, listening_on  # noqa: E402

GENEROUS_S = 60.0


def test_both_ends_see_the_same_store() -> None:
    hosted = rendezvous.hosted_store("127.0.0.2", 10)
    joined = rendezvous.joined_store("127.0.0.2", hosted.port, 10)
    joined.set("a", "b")
    assert hosted.store.get("a") == b"b"
    hosted.close()


def test_the_store_listens_on_the_given_address_only() -> None:
    with End("joiner", "127.0.0.3") as joiner:
        joiner.ask("host")
        assert listening_on(joiner.pid) == {"0300007F"}


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LinkError, match=rf"127\.0\.0\.2:{port}.*in use"):
            rendezvous.hosted_store("127.0.0.2", 5, port)


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(LinkError, match=r"192\.0\.2\.7.*assign"):
        rendezvous.hosted_store("192.0.2.7", 5)


def test_a_closed_store_gives_its_port_back_and_refuses() -> None:
    hosted = rendezvous.hosted_store("127.0.0.2", 5)
    hosted.close()
    with pytest.raises(LinkBroken, match="closed"):
        _ = hosted.store
    again = rendezvous.hosted_store("127.0.0.2", 5, hosted.port)
    assert again.port == hosted.port
    again.close()


def test_many_stores_at_once_get_ports_of_their_own() -> None:
    made: list[rendezvous.Hosted] = []
    threads = [
        threading.Thread(target=lambda: made.append(rendezvous.hosted_store("127.0.0.2", 5)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GENEROUS_S)
    assert len({hosted.port for hosted in made}) == 8
    for hosted in made:
        hosted.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        return int(taken.getsockname()[1])


def test_a_store_that_never_comes_is_a_timeout() -> None:
    port = _free_port()
    began = time.monotonic()
    with pytest.raises(LinkTimeout, match=rf"nobody answers at 127\.0\.0\.2:{port}"):
        rendezvous.joined_store("127.0.0.2", port, 1.0)
    assert 1.0 <= time.monotonic() - began < GENEROUS_S


def test_a_store_that_comes_late_is_found() -> None:
    port = _free_port()
    late: list[rendezvous.Hosted] = []
    timer = threading.Timer(0.5, lambda: late.append(rendezvous.hosted_store("127.0.0.2", 10, port)))
    timer.start()
    joined = rendezvous.joined_store("127.0.0.2", port, GENEROUS_S)
    timer.join()
    joined.set("a", "b")
    assert late[0].store.get("a") == b"b"
    late[0].close()


def test_a_listener_that_never_answers_is_a_timeout_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.2", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(LinkTimeout):
            rendezvous.joined_store("127.0.0.2", port, 1.0)
        for thread in set(threading.enumerate()) - before:
            thread.join(GENEROUS_S)
            assert not thread.is_alive()


def test_a_wrong_prefix_ends_at_the_deadline_on_both_ends() -> None:
    with End("joiner", "127.0.0.2") as joiner, End("source", "127.0.0.3") as source:
        where = joiner.ask("host")
        source.tell("open", kind="gloo", **where, timeout_s=2.0, prefix="tcp://127.0.0.2:1/other/")
        answer = joiner.ask("open", kind="gloo", **where, timeout_s=2.0)
        assert answer["error"] == source.answer()["error"] == "LinkTimeout"
        assert joiner.leave() == source.leave() == 0


def test_the_prefix_is_that_of_vllm_ascend() -> None:
    assert rendezvous.group_prefix("10.0.0.1", 40001, "netloader") == "tcp://10.0.0.1:40001/netloader/"


def test_a_stranger_without_the_key_does_not_become_the_peer() -> None:
    hosted = rendezvous.hosted_store("127.0.0.2", 10)
    inside = rendezvous.prefixed(hosted.store, "p", GENEROUS_S)
    taken: list[socket.socket] = []
    host = threading.Thread(
        target=lambda: taken.append(
            rendezvous.peer_socket(inside, hosts=True, local_ip="127.0.0.2", timeout_s=GENEROUS_S)
        )
    )
    host.start()
    # A store's client is one connection, on which a read that waits holds up every other thread.
    other = rendezvous.prefixed(rendezvous.joined_store("127.0.0.2", hosted.port, 10), "p", GENEROUS_S)
    port = int(bytes(other.get("peer_socket")).decode().split(" ")[2])
    with socket.create_connection(("127.0.0.2", port)) as stranger:
        stranger.sendall(b"0" * 32)
        with rendezvous.peer_socket(other, hosts=False, local_ip="127.0.0.2", timeout_s=GENEROUS_S) as peer:
            host.join(GENEROUS_S)
            peer.sendall(b"hello")
            assert taken[0].recv(5) == b"hello"
        assert stranger.recv(1) == b""
    taken[0].close()
    hosted.close()
