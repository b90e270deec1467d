"""One connection at a source, from JOIN to DONE, in a thread of its own.

Whatever the peer sends, sends in pieces, or does not send: every step has a deadline, and the end of this
connection is the only consequence.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ascendctl.netloader.engine import metrics, phases
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.control import Control, ControlError, Label, send_bytes
from ascendctl.netloader.engine.conversation import AnswerTimeout, Conversation, ConversationEnded, How
from ascendctl.netloader.engine.devices import on_device
from ascendctl.netloader.engine.holdings import Edition, HoldingsLost
from ascendctl.netloader.engine.identity import Identity, IdentityError, differences
from ascendctl.netloader.engine.legacy_source import LegacyRefusal, serve_legacy
from ascendctl.netloader.engine.links.choose import Refusal, chosen, offered, open_link
from ascendctl.netloader.engine.links.contract import Link, LinkError, Pending
from ascendctl.netloader.engine.links.rendezvous import group_prefix, joined_store
from ascendctl.netloader.engine.opening import opened
from ascendctl.netloader.engine.proof import ProofError, challenge
from ascendctl.netloader.engine.shop import IN_FLIGHT, Shop
from ascendctl.netloader.engine.weight_version import Sending, WeightsChanged
from ascendctl.netloader.engine.wire import (
    Ack,
    AckExtension,
    Extension,
    JoinError,
    JoinRequest,
    decode_join,
    encode_ack,
    read_join,
    refuse,
)

if TYPE_CHECKING:
    import torch

BUSY = "busy"
"""How the reason of a refusal begins that only time can help: the joiner asks again."""

_ANSWER_TIMEOUT_S = 10.0
_LARGEST_FRAME_BYTES = 1024 * 1024
_WAIT_FOR_SLOT_S = 3.0
_LEGACY_WAIT_FOR_SLOT_S = 45.0  # vllm-ascend's client gives up after 60 s


class Turned(Exception):
    """The joiner is refused; ``str()`` is what it is told."""


class Service:
    """Serves one accepted connection; ``run`` returns when it is over, and never raises."""

    def __init__(self, shop: Shop, sock: socket.socket, peer: Address) -> None:
        self._shop = shop
        self._sock = sock
        self._peer = peer
        self._lock = threading.Lock()
        self._conversation: Conversation | None = None
        self._stopped: str | None = None
        self.heard = threading.Event()
        """Set once a JOIN was read: until then the connection may be anything, and is first to be dropped."""

    def run(self) -> None:
        outcome, told = "failed", ""
        try:
            outcome, told = self._serve()
        except Turned as turned:
            outcome, told = "refused", str(turned)
        except (ControlError, JoinError, ConversationEnded, AnswerTimeout, LinkError, HoldingsLost) as error:
            told = str(error)
        except WeightsChanged as error:
            outcome, told = "aborted", str(error)
        except Exception as error:  # a defect here must not cost the other joiners their source
            told = f"{type(error).__name__}: {error}"
            phases.logger().exception("%s", phases.line(event="defect", peer=self._peer))
        finally:
            with contextlib.suppress(OSError):
                self._sock.close()
        self._count(outcome)
        phases.logger().info(
            "%s",
            phases.line(
                event=f"join-{outcome}",
                rank=self._shop.served.device_id,
                group=self._shop.group,
                joiner=self._peer,
                reason=told or None,
            ),
        )

    def stop(self, reason: str) -> None:
        """Ends the service from another thread: the joiner is told the reason."""
        with self._lock:
            self._stopped = self._stopped or reason
            conversation = self._conversation
        if conversation is not None:
            conversation.stop(reason)
        else:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def _count(self, outcome: str) -> None:
        metrics.count_join(outcome)
        if outcome == "refused":
            self._shop.count(refused=1)
        elif outcome in ("failed", "aborted"):
            self._shop.count(failed=1)

    # From JOIN to the answer --------------------------------------------------------------------------

    def _serve(self) -> tuple[str, str]:
        try:
            data = read_join(self._sock, self._shop.options.timeouts.join_s)
            request = decode_join(data)
        except JoinError as error:
            refuse(self._sock, f"this is no JOIN: {error}")
            raise
        self.heard.set()
        if request.extension is None:
            return self._serve_legacy(request)
        try:
            control = Control(self._sock, limit_bytes=_LARGEST_FRAME_BYTES)
            if self._shop.options.token is not None:
                timeout_s = self._shop.options.timeouts.join_s
                control.secure(challenge(control, self._shop.options.token, data, timeout_s))
            self._check(request)
            return self._answered(control, request, request.extension)
        except (Turned, ProofError) as turned:
            refuse(self._sock, str(turned))
            raise Turned(str(turned)) from None

    def _serve_legacy(self, request: JoinRequest) -> tuple[str, str]:
        if self._shop.options.token is not None:
            reason = "a token is set here, and this peer does not speak the extension that carries it"
            refuse(self._sock, reason)
            raise Turned(reason)
        try:
            with self._shop.slot(_LEGACY_WAIT_FOR_SLOT_S) as got:
                if not got:
                    raise LegacyRefusal(self._busy())
                sent = serve_legacy(self._shop, self._sock, self._peer, request)
        except LegacyRefusal as refusal:
            refuse(self._sock, str(refusal))
            raise Turned(str(refusal)) from None
        self._shop.count(joiners=1, bytes=sent)
        metrics.count_bytes(metrics.SENT, sent)
        return (
            "served",
            f"a peer without the extension ({request.generation}): nothing could be verified there",
        )

    def _check(self, request: JoinRequest) -> None:
        if request.group != self._shop.group and self._shop.announced(request.group) is None:
            raise Turned(
                f"this listener serves the group {self._shop.group!r}, not {request.group!r}: the status file"
                " of the source names the port of each"
            )
        servable, reason = self._shop.shelf.version.servable
        if not servable:
            raise Turned(f"the weights cannot be sent now: {reason}")

    def _answered(self, control: Control, request: JoinRequest, extension: Extension) -> tuple[str, str]:
        elsewhere = self._elsewhere(control, request, extension)
        if elsewhere is not None:
            self._say_ack(control, AckExtension(None, (elsewhere,)))
            control.close(drain_s=1.0)
            return "redirected", f"to {elsewhere}"
        kind = chosen(offered(self._shop.shelf.weights.device, self._shop.options.transport), extension.links)
        if isinstance(kind, Refusal):
            raise Turned(kind.reason)
        with self._shop.slot(_WAIT_FOR_SLOT_S) as got:
            if not got:
                raise Turned(self._busy())
            try:
                with self._shop.shelf.version.sending(self._weights_change) as sending:
                    self._say_ack(control, AckExtension(kind))
                    conversation = self._converse(control)
                    try:
                        return self._transfer(conversation, control, request, kind, sending)
                    finally:
                        # Only a reason that was just said is worth waiting for until it is read.
                        conversation.close(drain_s=1.0 if conversation.stopped_here else 0.0)
            except WeightsChanged as error:
                if self._conversation is None:
                    raise Turned(f"the weights cannot be sent now: {error}") from None
                raise

    def _busy(self) -> str:
        return f"{BUSY}: {self._shop.most_served} joiners are being served here; ask again"

    def _elsewhere(self, control: Control, request: JoinRequest, extension: Extension) -> str | None:
        """Where the joiner is to go instead: the draft model's listener, or its parent in the chain."""
        if request.group != self._shop.group:
            return str(self._shop.announced(request.group))
        if not self._shop.options.chain or extension.relay is None or not self._shop.shelf.whole:
            return None
        if extension.identity != self._shop.identity.digest:
            return None  # it is told what differs, here
        lost = () if extension.lost is None else (extension.lost,)
        returning = extension.lost is not None or bool(extension.first_chunk)
        return self._shop.parent_of(str(Address(control.peer[0], extension.relay)), lost, returning)

    def _say_ack(self, control: Control, extension: AckExtension) -> None:
        ack = Ack(name=str(self._peer), extension=extension)
        send_bytes(control.socket, encode_ack(ack), _ANSWER_TIMEOUT_S)

    def _converse(self, control: Control) -> Conversation:
        with self._lock:
            self._conversation = Conversation(control, name=str(self._peer))
            stopped = self._stopped
        if stopped is not None:
            self._conversation.stop(stopped)
        return self._conversation

    def _weights_change(self, reason: str) -> None:
        # In a thread: a joiner that does not read must not hold up sleep mode.
        teller = threading.Thread(target=self.stop, args=(reason,), name="netloader-aborts", daemon=True)
        teller.start()
        teller.join(0.5)

    # From the identity to DONE ------------------------------------------------------------------------

    def _transfer(
        self, conversation: Conversation, control: Control, request: JoinRequest, kind: str, sending: Sending
    ) -> tuple[str, str]:
        timeouts = self._shop.options.timeouts
        relay = None
        if request.extension is not None and request.extension.relay is not None:
            relay = str(Address(control.peer[0], request.extension.relay))
        try:
            self._agree_on_identity(conversation, kind)
            edition = self._edition(conversation, sending)
            conversation.say(
                Label.MANIFEST,
                manifest=self._shop.shelf.printed(edition),
                weights_version=sending.number,
                origin=edition.origin,
            )
            ready = conversation.hear(Label.READY, timeout_s=timeouts.join_s)
            first = ready.content.get("first_chunk")
            chunks = len(edition.manifest.chunks)
            if type(first) is not int or not 0 <= first <= chunks:
                raise self._nonsense(conversation, f"READY asks for chunk {first!r:.40} of {chunks}")
            started_s = time.monotonic()
            with self._opened(conversation, control, request, kind) as link:
                sent = self._send(conversation, link, edition, first, sending)
                conversation.hear(Label.DONE, timeout_s=timeouts.chunk_s)
        except (ConversationEnded, AnswerTimeout, LinkError, HoldingsLost, WeightsChanged) as error:
            if relay is not None:
                self._shop.lose(relay)
            raise self._explained(conversation, error) from None
        self._shop.count(joiners=1)
        phases.logger().info(
            "%s",
            phases.line(
                event="sent", joiner=self._peer, link=kind, bytes=sent, seconds=time.monotonic() - started_s
            ),
        )
        return "served", ""

    def _agree_on_identity(self, conversation: Conversation, kind: str) -> None:
        frame = conversation.hear(Label.IDENTITY, timeout_s=self._shop.options.timeouts.join_s)
        try:
            theirs = Identity.from_json(frame.content)
        except IdentityError as error:
            found: tuple[str, ...] = (f"the identity cannot be read: {error}",)
        else:
            found = differences(self._shop.identity, theirs, across_devices=kind == "host")
        if found:
            reason = "; ".join(found)
            conversation.say(Label.REFUSE, reason=f"the source refuses: {reason}")
            conversation.ended_within(1.0)  # until the joiner closes, having read it
            raise Turned(reason)

    def _edition(self, conversation: Conversation, sending: Sending) -> Edition:
        """Waits as long as the joiner does: it hears KEEPALIVE meanwhile."""
        while True:
            conversation.check()
            edition = self._shop.shelf.edition(sending, timeout_s=0.5)
            if edition is not None:
                return edition

    @contextlib.contextmanager
    def _opened(
        self, conversation: Conversation, control: Control, request: JoinRequest, kind: str
    ) -> Iterator[Link]:
        timeout_s = self._shop.options.timeouts.link_s
        until_s = time.monotonic() + timeout_s
        ip = control.peer[0]
        device = self._shop.shelf.weights.device

        def make() -> Link:
            with on_device(device):
                store = joined_store(ip, request.port, timeout_s)
                # The port may be another joiner's by now, if this one is gone.
                conversation.check()
                return open_link(
                    kind,
                    role="source",
                    store=store,
                    prefix=group_prefix(ip, request.port, request.group),
                    device=device,
                    local_ip=control.local[0],
                    timeout_s=max(0.1, until_s - time.monotonic()),
                )

        link = opened(conversation, make, timeout_s)
        try:
            yield link
        finally:
            link.close()

    def _send(
        self, conversation: Conversation, link: Link, edition: Edition, first: int, sending: Sending
    ) -> int:
        """Sends the chunks from ``first`` on as they become available; returns the bytes."""
        shop, timeout_s = self._shop, self._shop.options.timeouts.chunk_s
        ended = threading.Event()

        def end() -> None:
            ended.set()
            link.abort("the join was ended over its control connection")

        conversation.at_end(end)
        # With their bytes: a pack has no other owner while it is on its way.
        under_way: deque[tuple[Pending, torch.Tensor]] = deque()
        announced, sent = first, 0
        with on_device(shop.shelf.weights.device):
            for chunk in edition.manifest.chunks[first:]:
                while (have := shop.shelf.holdings.wait_for(edition, chunk.index + 1, 0.5)) <= chunk.index:
                    conversation.check()
                    sending.check()
                conversation.check()
                sending.check()
                if have > announced:
                    conversation.say(Label.AVAILABLE, upto=have)
                    announced = have
                if not shop.bucket.take(chunk.nbytes, ended):
                    conversation.check()
                while len(under_way) >= IN_FLIGHT:
                    under_way[0][0].wait(timeout_s)
                    under_way.popleft()
                data = shop.shelf.weights.outgoing(chunk)
                under_way.append((link.send(data), data))
                sent += chunk.nbytes
                shop.count(bytes=chunk.nbytes, chunks=1)
                metrics.count_bytes(metrics.SENT, chunk.nbytes)
            for pending, _ in under_way:
                pending.wait(timeout_s)
        return sent

    def _nonsense(self, conversation: Conversation, reason: str) -> ConversationEnded:
        conversation.stop(reason)
        ending = conversation.ending
        assert ending is not None
        return ConversationEnded(ending)

    def _explained(self, conversation: Conversation, error: Exception) -> Exception:
        """The reason behind the error that showed first: a broken link says less than the ABORT behind it.
        The joiner is told when it does not know."""
        if isinstance(error, LinkError):
            ending = conversation.ended_within(1.0)
            if ending is not None:
                return ConversationEnded(ending)
        if conversation.ending is None:
            conversation.stop(str(error))
        elif conversation.ending.how is How.STOPPED and self._stopped is not None:
            return WeightsChanged(self._stopped)
        return error
