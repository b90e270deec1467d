"""The token handshake: only both ends with the same token come through, and neither shows it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ascendctl.netloader.engine import proof
from ascendctl.netloader.engine.control import (
    Control,
    ControlBroken,
    ControlError,
    ControlTimeout,
    Label,
    PeerGone,
    SessionKey,
)
from ascendctl.netloader.engine.proof import ProofError, answer, challenge, new_nonce
from ascendctl.netloader.engine.wire import (
    Ack,
    Extension,
    JoinRequest,
    TokenWanted,
    encode_ack,
    encode_join,
    encode_nack,
    read_answer,
    refuse,
)

WAIT_S = 20.0
SHORT_S = 0.2
TOKEN = b"a token of some length"
PLAIN = JoinRequest(0, "/m", 1, 1, 5000, "netloader", "no")
JOIN = encode_join(replace(PLAIN, extension=Extension("ab" * 16, ("gloo",), bytes(range(16)))))


@pytest.fixture
def ends() -> Iterator[tuple[Control, Control]]:
    """Joiner, source."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    joiner, source = Control(near), Control(far)
    yield joiner, source
    joiner.close()
    source.close()


Ends = tuple[Control, Control]
Outcome = SessionKey | Exception


def both(joiner: Callable[[], SessionKey], source: Callable[[], SessionKey]) -> tuple[Outcome, Outcome]:
    """What each part came to, run at once."""
    outcomes: dict[str, Outcome] = {}

    def run(name: str, part: Callable[[], SessionKey]) -> None:
        try:
            outcomes[name] = part()
        except (ProofError, ControlError) as error:
            outcomes[name] = error

    threads = [threading.Thread(target=run, args=item) for item in (("joiner", joiner), ("source", source))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    return outcomes["joiner"], outcomes["source"]


def handshake(
    ends: Ends, *, joiner: bytes = TOKEN, source: bytes = TOKEN, seen: bytes = JOIN
) -> tuple[Outcome, Outcome]:
    """``seen``: the JOIN as the source read it."""

    def joins() -> SessionKey:
        try:
            return answer(ends[0], joiner, JOIN, WAIT_S)
        except ProofError:
            ends[0].close()  # as a joiner does that cannot trust the source
            raise

    return both(joins, lambda: challenge(ends[1], source, seen, WAIT_S))


def test_the_same_token_gives_both_ends_the_keys_of_one_session(ends: Ends) -> None:
    joiner, source = handshake(ends)
    assert isinstance(joiner, SessionKey)
    assert isinstance(source, SessionKey)
    assert (joiner.outgoing, joiner.incoming) == (source.incoming, source.outgoing)
    assert joiner.outgoing != joiner.incoming
    # The classic answer follows unframed, then frames under the key.
    ends[0].secure(joiner)
    ends[1].secure(source)
    ends[1].socket.sendall(encode_ack(Ack("127.0.0.1:1")))
    assert read_answer(ends[0].socket, WAIT_S) == Ack("127.0.0.1:1")
    ends[0].send(Label.IDENTITY, a=1)
    assert ends[1].receive(WAIT_S).content == {"a": 1}


def test_every_session_has_other_keys(ends: Ends) -> None:
    first, second = handshake(ends)[0], handshake(ends)[0]
    assert isinstance(first, SessionKey)
    assert isinstance(second, SessionKey)
    assert first.outgoing != second.outgoing


def test_another_token_is_seen_by_the_joiner_before_it_proves_anything(ends: Ends) -> None:
    joiner, source = handshake(ends, joiner=b"another token entirely")
    assert isinstance(joiner, ProofError)
    assert "token is not this side's" in str(joiner)
    assert isinstance(source, PeerGone)


def test_a_join_changed_on_the_way_is_seen(ends: Ends) -> None:
    joiner, _ = handshake(ends, seen=JOIN.replace(b'"port":5000', b'"port":5001'))
    assert isinstance(joiner, ProofError)


def test_somebody_in_the_middle_cannot_have_the_weights_sent_to_himself(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He passes every byte on, but the source sees him at the other end, and would connect to him."""
    monkeypatch.setattr(ends[1], "_peer", ("127.0.0.9", 1))
    assert isinstance(handshake(ends)[0], ProofError)


@pytest.mark.parametrize("wrong", ["00" * 32, "", "zz" * 32, None, 5, "\ud800" * 64, "é" * 64])
def test_a_joiner_without_the_token_is_refused(ends: Ends, wrong: object) -> None:
    def guesses() -> SessionKey:
        ends[0].receive(WAIT_S)
        ends[0].send(Label.PROOF, proof=wrong)
        raise ProofError("unused")

    assert isinstance(both(guesses, lambda: challenge(ends[1], TOKEN, JOIN, WAIT_S))[1], ProofError)


def test_the_proof_of_the_source_sent_back_to_it_proves_nothing(ends: Ends) -> None:
    def reflects() -> SessionKey:
        ends[0].send(Label.PROOF, proof=ends[0].receive(WAIT_S).content["proof"])
        raise ProofError("unused")

    assert isinstance(both(reflects, lambda: challenge(ends[1], TOKEN, JOIN, WAIT_S))[1], ProofError)


def test_a_recorded_proof_proves_nothing_later(ends: Ends) -> None:
    """The whole handshake, recorded and sent again: the source's nonce is new."""
    recorded = []
    send = ends[0].send
    ends[0].send = lambda label, **content: (recorded.append(content), send(label, **content))[1]  # type: ignore[method-assign, func-returns-value, assignment]
    assert isinstance(handshake(ends)[1], SessionKey)

    def replays() -> SessionKey:
        ends[0].receive(WAIT_S)
        send(Label.PROOF, **recorded[0])
        raise ProofError("unused")

    assert isinstance(both(replays, lambda: challenge(ends[1], TOKEN, JOIN, WAIT_S))[1], ProofError)


def test_a_frame_that_is_no_proof_is_refused(ends: Ends) -> None:
    ends[0].send(Label.IDENTITY)
    with pytest.raises(ProofError, match="did not prove"):
        challenge(ends[1], TOKEN, JOIN, WAIT_S)


def test_a_peer_without_the_extension_is_refused_with_what_to_do(ends: Ends) -> None:
    with pytest.raises(ProofError, match="does not speak the extension"):
        challenge(ends[1], TOKEN, encode_join(PLAIN), WAIT_S)
    with pytest.raises(ProofError, match="cannot be read"):
        challenge(ends[1], TOKEN, b"{}", WAIT_S)


def test_a_joiner_with_a_token_takes_no_ack_without_a_challenge(ends: Ends) -> None:
    ends[1].socket.sendall(encode_ack(Ack("127.0.0.1:1")))
    with pytest.raises(ProofError, match="without proving that it holds the token"):
        answer(ends[0], TOKEN, JOIN, WAIT_S)


def test_a_joiner_with_a_token_passes_a_refusal_on(ends: Ends) -> None:
    ends[1].socket.sendall(encode_nack("another model"))
    with pytest.raises(ProofError, match="refused: another model"):
        answer(ends[0], TOKEN, JOIN, WAIT_S)


def test_a_joiner_without_a_token_learns_that_one_is_wanted_and_the_source_goes_on(ends: Ends) -> None:
    seen: list[Exception] = []

    def joins() -> SessionKey:
        try:
            read_answer(ends[0].socket, WAIT_S)
        except TokenWanted as error:
            seen.append(error)
        ends[0].close()
        raise ProofError("unused")

    outcome = both(joins, lambda: challenge(ends[1], TOKEN, JOIN, WAIT_S))[1]
    assert isinstance(outcome, PeerGone)
    assert "TOKEN" in str(seen[0])


def test_a_refusal_reaches_the_joiner_that_proved_the_wrong_thing(ends: Ends) -> None:
    ends[0].send(Label.PROOF, proof="00" * 32)
    with pytest.raises(ProofError) as caught:
        challenge(ends[1], TOKEN, JOIN, WAIT_S)
    refusing = threading.Thread(target=refuse, args=(ends[1].socket, str(caught.value), WAIT_S))
    refusing.start()
    assert ends[0].receive(WAIT_S).label == "CHALLENGE"
    given = read_answer(ends[0].socket, WAIT_S)
    ends[0].close()
    refusing.join(WAIT_S)
    assert "token is not this source's" in given.reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "content",
    [{}, {"nonce": "00" * 16}, {"nonce": 1, "proof": []}, {"nonce": "00", "proof": "00" * 32}],
)
def test_a_challenge_that_makes_no_sense_is_refused(ends: Ends, content: dict[str, object]) -> None:
    ends[1].send(Label.CHALLENGE, **content)
    with pytest.raises(ProofError):
        answer(ends[0], TOKEN, JOIN, WAIT_S)


def test_silence_ends_at_the_deadline_at_both_ends(ends: Ends) -> None:
    with pytest.raises(ControlTimeout):
        answer(ends[0], TOKEN, JOIN, SHORT_S)
    with pytest.raises(ControlTimeout):
        challenge(ends[1], TOKEN, JOIN, SHORT_S)


def test_garbage_breaks_the_connection_and_nothing_else(ends: Ends) -> None:
    ends[1].socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ControlBroken):
        answer(ends[0], TOKEN, JOIN, WAIT_S)


def test_the_token_is_never_on_the_wire(ends: Ends) -> None:
    ends[0].send(Label.PROOF, proof="00" * 32)
    with pytest.raises(ProofError) as caught:
        challenge(ends[1], TOKEN, JOIN, WAIT_S)
    sent = json.dumps(ends[0].receive(WAIT_S).content)
    for secret in (TOKEN.decode(), TOKEN.hex()):
        assert secret not in sent
        assert secret not in str(caught.value)


def test_proofs_are_compared_in_constant_time(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    plain = proof.hmac.compare_digest
    monkeypatch.setattr(proof.hmac, "compare_digest", lambda a, b: compared.append(1) or plain(a, b))
    handshake(ends)
    assert len(compared) == 2


def test_one_address_has_one_spelling() -> None:
    assert proof._plain("::ffff:10.0.0.1") == proof._plain("10.0.0.1") == "10.0.0.1"
    assert proof._plain("FE80::1%eth0") == "fe80::1"
    assert proof._plain("no address") == "no address"


def test_nonces_do_not_repeat() -> None:
    assert len({new_nonce() for _ in range(1000)}) == 1000
    assert len(new_nonce()) == 16
