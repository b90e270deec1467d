"""The token handshake: each end proves to the other that it holds the token, without showing it.

    joiner  JOIN, with its nonce in the extension
    source  CHALLENGE {nonce, proof}
    joiner  PROOF {proof}

A proof is HMAC-SHA256 under the token over the role of its maker, both nonces, the joiner's IP address and
the bytes of the JOIN. The role keeps a proof from being sent back to its maker; the nonces keep it from being
used again; the address, which each end takes from its own socket, keeps somebody in the middle from having
the weights sent to himself (the source connects to the address that the JOIN came from). The keys of the
frames that follow come from the same values.

The source proves first: a joiner with a token tells nothing to a source without it. What this does not do is
encrypt: control frames and weights can be read on the way; changed weights show by the digests of the
manifest, which is a frame under the key.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time

from ascendctl.netloader.engine.control import Control, ControlError, Frame, Label, SessionKey, receive_bytes
from ascendctl.netloader.engine.wire import (
    NONCE_BYTES,
    AnswerError,
    JoinError,
    Nack,
    decode_join,
    read_answer,
)

_PROOF_BYTES = 32


class ProofError(Exception):
    """The other end did not prove that it holds the same token; ``str()`` is fit to be sent to it."""


def new_nonce() -> bytes:
    """16 random bytes."""
    return secrets.token_bytes(NONCE_BYTES)


def challenge(control: Control, token: bytes, join: bytes, timeout_s: float) -> SessionKey:
    """The source's part, after it read ``join`` (the bytes): the keys for :meth:`.Control.secure`.

    Raises ProofError (refuse with its text), ControlTimeout, ControlBroken.
    """
    theirs = _nonce_of(join)
    own = new_nonce()
    proofs = _Proofs(token, theirs, own, control.peer[0], join)
    control.send(Label.CHALLENGE, nonce=own.hex(), proof=proofs.of(b"source").hex())
    answer = control.receive(timeout_s)
    if answer.label != Label.PROOF:
        raise ProofError("the joiner did not prove that it holds the token: set TOKEN or TOKEN_FILE there")
    if not hmac.compare_digest(_field(answer, "proof", _PROOF_BYTES), proofs.of(b"joiner")):
        raise ProofError("the joiner's token is not this source's (or its address is translated on the way)")
    return SessionKey(outgoing=proofs.of(b"key of source"), incoming=proofs.of(b"key of joiner"))


def answer(control: Control, token: bytes, join: bytes, timeout_s: float) -> SessionKey:
    """The joiner's part, after it sent ``join`` (the bytes): the keys for :meth:`.Control.secure`. The
    source's JOIN_ACK or JOIN_NACK follows, unframed.

    Raises ProofError (the source has no token, another one, or refused at once: then with its reason),
    PeerGone, ControlTimeout, ControlBroken.
    """
    until = time.monotonic() + timeout_s
    own = _nonce_of(join)
    if _next_byte(control, until) == b"{":
        raise ProofError(_unproven(control, until - time.monotonic()))
    frame = control.receive(max(0.0, until - time.monotonic()))
    if frame.label != Label.CHALLENGE:
        raise ProofError(f"the source sent {frame.label[:40]!r} where a challenge was due")
    theirs = _field(frame, "nonce", NONCE_BYTES)
    proofs = _Proofs(token, own, theirs, control.local[0], join)
    if not hmac.compare_digest(_field(frame, "proof", _PROOF_BYTES), proofs.of(b"source")):
        raise ProofError("the source's token is not this side's (or this address is translated on the way)")
    control.send(Label.PROOF, proof=proofs.of(b"joiner").hex())
    return SessionKey(outgoing=proofs.of(b"key of joiner"), incoming=proofs.of(b"key of source"))


class _Proofs:
    """What both ends can compute of one handshake: one value for each purpose."""

    def __init__(self, token: bytes, joiner: bytes, source: bytes, joiner_ip: str, join: bytes) -> None:
        self._token = token
        # All but the JOIN, which is last, have a fixed length or a mark behind them: no two sets of values
        # give the same bytes.
        self._said = joiner + source + _plain(joiner_ip).encode("ascii", "backslashreplace") + b"\0" + join

    def of(self, purpose: bytes) -> bytes:
        return hmac.new(self._token, b"ascendctl 1 " + purpose + b"\0" + self._said, "sha256").digest()


def _nonce_of(join: bytes) -> bytes:
    try:
        extension = decode_join(join).extension
    except JoinError as error:
        raise ProofError(f"the JOIN cannot be read: {error}") from None
    if extension is None:
        raise ProofError("a token is set here, and this peer does not speak the extension that carries it")
    return extension.nonce


def _next_byte(control: Control, until: float) -> bytes:
    """The first byte of the answer, left where it is."""
    return receive_bytes(control.socket, 1, until, peek=True)


def _unproven(control: Control, left_s: float) -> str:
    """Why an answer without a challenge is not taken. A refusal is passed on: it costs nothing to believe."""
    try:
        given = read_answer(control.socket, max(0.0, left_s))
    except (AnswerError, ControlError):
        given = None
    if isinstance(given, Nack):
        return f"refused: {given.reason[:400]}"
    return (
        "the source answers without proving that it holds the token: it has none, or is no engine of"
        " ascendctl; set the same TOKEN or TOKEN_FILE there"
    )


def _field(frame: Frame, name: str, size: int) -> bytes:
    """``size`` bytes in hex; b"", which equals no proof, for anything else."""
    text = frame.content.get(name)
    try:
        value = bytes.fromhex(text) if isinstance(text, str) and len(text) == 2 * size else b""
    except ValueError:
        return b""
    return value


def _plain(ip: str) -> str:
    """One spelling of an address: no zone, and IPv4 also where the socket is IPv6."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
