"""One attempt of a joiner at one source: from the TCP connection to DONE.

What was verified stays with the `Intake`, so that the next attempt, at whatever source has the same content,
goes on behind it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.control import Control, ControlError, Frame, Label, send_bytes
from ascendctl.netloader.engine.conversation import (
    AnswerTimeout,
    Conversation,
    ConversationEnded,
    How,
)
from ascendctl.netloader.engine.devices import finish, on_device
from ascendctl.netloader.engine.digest import Digester
from ascendctl.netloader.engine.identity import Identity
from ascendctl.netloader.engine.intake import AttemptFailed, Intake, Outcome, Stream, WrongBytes
from ascendctl.netloader.engine.legacy_joining import LegacyMismatch, receive_legacy
from ascendctl.netloader.engine.links.choose import offered, open_link
from ascendctl.netloader.engine.links.contract import Link, LinkError
from ascendctl.netloader.engine.links.rendezvous import Hosted, group_prefix, hosted_store
from ascendctl.netloader.engine.manifest import Manifest, ManifestError, differences
from ascendctl.netloader.engine.opening import opened
from ascendctl.netloader.engine.options import Options
from ascendctl.netloader.engine.origin import REMEDY, TELLS_NONE, OriginError, read_origin
from ascendctl.netloader.engine.phases import Phases
from ascendctl.netloader.engine.proof import ProofError, answer, new_nonce
from ascendctl.netloader.engine.serving import BUSY
from ascendctl.netloader.engine.shop import LegacyTensors
from ascendctl.netloader.engine.weights import WeightSet
from ascendctl.netloader.engine.wire import (
    Ack,
    AnswerError,
    Extension,
    JoinRequest,
    JoinTooLong,
    Nack,
    encode_join,
    read_answer,
)

_LOOK_EVERY_S = 0.5
_GRACE_S = 0.3
_GOODBYE_S = 2.0


@dataclass(frozen=True)
class Joiner:
    """Who joins, for what; the same over all attempts. ``ranks``: how many load this model together."""

    weights: WeightSet
    identity: Identity
    options: Options
    rank: int
    group: str
    model_path: str
    phases: Phases
    legacy: LegacyTensors = field(default_factory=LegacyTensors)
    relay_port: int | None = None
    ranks: int = 1


@dataclass(frozen=True)
class Finished:
    """The attempt brought everything. ``verified``: every byte was compared with its digest."""

    verified: bool


class Attempt:
    """One attempt at ``source``. ``run`` returns Finished, or the address to which the source sends on."""

    def __init__(
        self, joiner: Joiner, intake: Intake, source: Address, *, lost: str | None, in_chain: bool
    ) -> None:
        """``lost``: a parent that the source had named and that failed; ``in_chain``: the source may send on
        to a parent."""
        self._joiner = joiner
        self._intake = intake
        self._source = source
        self._lost = lost
        self._in_chain = in_chain
        self._timeouts = joiner.options.timeouts
        self._digester: Digester | None = None

    def run(self) -> Finished | Address:
        """Raises AttemptFailed."""
        sock = self._connected()
        try:
            return self._over(sock)
        finally:
            with contextlib.suppress(OSError):
                sock.close()

    def _connected(self) -> socket.socket:
        with self._phase("connect"):
            timeout_s = self._intake.left_s(self._timeouts.connect_s)
            try:
                return socket.create_connection((self._source.host, self._source.port), timeout_s)
            except OSError as error:
                reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
                raise AttemptFailed(
                    "connect", Outcome.LOST, f"cannot connect to {self._source}: {reason}"
                ) from None

    def _over(self, sock: socket.socket) -> Finished | Address:
        with contextlib.ExitStack() as cleanup:
            told = cleanup.enter_context(_first(self._phase("join")))
            hosted = self._hosted(sock)
            cleanup.callback(hosted.close)
            control = self._control(sock)
            ack = self._joined(control, hosted)
            if ack.extension is None:
                told.close()
                return self._from_legacy(sock, hosted, ack)
            if ack.extension.redirect:
                return _address(ack.extension.redirect[0])
            assert ack.extension.link is not None
            conversation = Conversation(control, name=str(self._source))
            cleanup.callback(conversation.close)
            try:
                first, manifest = self._agreed(conversation)
                told.close()
                self._transfer(conversation, control, hosted, ack, manifest, first)
            except (ConversationEnded, AnswerTimeout) as error:
                raise self._failure("join" if told.is_open else "wire", error) from None
            return Finished(verified=manifest.digests is not None)

    # Join ---------------------------------------------------------------------------------------------

    def _hosted(self, sock: socket.socket) -> Hosted:
        try:
            return hosted_store(str(sock.getsockname()[0]), self._timeouts.link_s)
        except LinkError as error:
            raise AttemptFailed("join", Outcome.REFUSED, str(error)) from None

    def _control(self, sock: socket.socket) -> Control:
        try:
            return Control(sock)
        except ControlError as error:
            raise AttemptFailed("join", Outcome.LOST, str(error)) from None

    def _joined(self, control: Control, hosted: Hosted) -> Ack:
        token = self._joiner.options.token
        timeout_s = self._intake.left_s(self._timeouts.join_s)
        try:
            data = encode_join(self._request(hosted.port))
            send_bytes(control.socket, data, timeout_s)
            if token is not None:
                control.secure(answer(control, token, data, timeout_s))
            given = read_answer(control.socket, timeout_s)
        except (JoinTooLong, AnswerError, ProofError, LinkError) as error:
            raise AttemptFailed("join", Outcome.REFUSED, str(error)) from None
        except ControlError as error:
            raise AttemptFailed("join", Outcome.LOST, str(error)) from None
        if isinstance(given, Nack):
            outcome = Outcome.BUSY if given.reason.startswith(BUSY) else Outcome.REFUSED
            raise AttemptFailed("join", outcome, f"{self._source} refuses: {given.reason}")
        return given

    def _request(self, store_port: int) -> JoinRequest:
        joiner, intake = self._joiner, self._intake
        resumes = intake.verified > 0 and intake.manifest is not None and intake.manifest.digests is not None
        extension = Extension(
            identity=joiner.identity.digest,
            links=offered(joiner.weights.device, joiner.options.transport),
            nonce=new_nonce(),
            first_chunk=intake.verified if resumes else None,
            content=intake.manifest.content_id if resumes and intake.manifest is not None else None,
            relay=joiner.relay_port if self._in_chain and joiner.options.chain else None,
            lost=self._lost,
        )
        return JoinRequest(
            device_id=joiner.rank,
            model_path=joiner.model_path,
            tp=joiner.identity.tp_size,
            pp=joiner.identity.pp_size,
            port=store_port,
            group_name=joiner.group,
            int8_cache=joiner.options.int8_cache,
            extension=extension,
        )

    def _agreed(self, conversation: Conversation) -> tuple[int, Manifest]:
        """The source's manifest, and the first chunk wanted of it."""
        conversation.say(Label.IDENTITY, **self._joiner.identity.to_json())
        # A source that was just started digests first, and says KEEPALIVE meanwhile.
        wait_s = self._intake.left_s(self._timeouts.join_s + self._timeouts.chunk_s)
        frame = conversation.hear(Label.MANIFEST, timeout_s=wait_s)
        try:
            text = frame.content.get("manifest")
            manifest = Manifest.decode(base64.b64decode(text if isinstance(text, str) else "", validate=True))
        except (ManifestError, binascii.Error, ValueError) as error:
            raise self._refused(conversation, f"its manifest cannot be read: {error}") from None
        found = differences(self._joiner.weights.manifest, manifest)
        if found:
            raise self._refused(conversation, f"its tensors are not those here: {'; '.join(found)}")
        if manifest.digests is None and self._joiner.options.verify == "required":
            raise self._refused(conversation, "it sends no digests, and VERIFY is required")
        first = self._intake.begin(manifest, self._origin(conversation, frame))
        version = frame.content.get("weights_version")
        self._intake.weights_version = version if isinstance(version, int) else None
        conversation.say(Label.READY, first_chunk=first)
        return first, manifest

    def _origin(self, conversation: Conversation, frame: Frame) -> str | None:
        """What the source tells of it; whether it is that of the other ranks, they find out together."""
        try:
            origin = read_origin(frame.content.get("origin"))
        except OriginError as error:
            raise self._refused(conversation, str(error)) from None
        if origin is None and self._joiner.ranks > 1 and self._joiner.options.verify == "required":
            raise self._refused(conversation, f"it {TELLS_NONE}. {REMEDY}")
        return origin

    def _refused(self, conversation: Conversation, reason: str) -> AttemptFailed:
        conversation.stop(f"the joiner refuses: {reason}")
        return AttemptFailed("join", Outcome.REFUSED, f"refused {self._source}: {reason}")

    # Wire ---------------------------------------------------------------------------------------------

    def _transfer(
        self,
        conversation: Conversation,
        control: Control,
        hosted: Hosted,
        ack: Ack,
        manifest: Manifest,
        first: int,
    ) -> None:
        assert ack.extension is not None and ack.extension.link is not None
        with self._phase("group", link=ack.extension.link):
            link = self._link(conversation, control, hosted, ack)
        try:
            with self._phase("wire", link=ack.extension.link) as told, on_device(self._joiner.weights.device):
                before = self._intake.bytes
                conversation.at_end(lambda: link.abort("the join was ended over its control connection"))
                try:
                    self._receive(conversation, link, manifest, first)
                except (LinkError, TimeoutError) as error:
                    raise self._failure("wire", error, conversation) from None
                finally:
                    told["bytes"] = self._intake.bytes - before
                self._goodbye(conversation, manifest)
        finally:
            conversation.at_end(lambda: None)
            link.close()

    def _link(self, conversation: Conversation, control: Control, hosted: Hosted, ack: Ack) -> Link:
        assert ack.extension is not None and ack.extension.link is not None
        kind = ack.extension.link
        device = self._joiner.weights.device
        timeout_s = self._intake.left_s(self._timeouts.link_s)
        local_ip = control.local[0]

        def make() -> Link:
            with on_device(device):
                return open_link(
                    kind,
                    role="joiner",
                    store=hosted.store,
                    prefix=group_prefix(_host_of(ack.name, local_ip), hosted.port, self._joiner.group),
                    device=device,
                    local_ip=local_ip,
                    timeout_s=timeout_s,
                )

        try:
            return opened(conversation, make, timeout_s)
        except LinkError as error:
            raise self._failure("group", error, conversation) from None

    def _receive(self, conversation: Conversation, link: Link, manifest: Manifest, first: int) -> None:
        with Digester(self._joiner.weights.device) as digester:
            stream = Stream(self._joiner.weights, manifest, self._intake, link, digester, first)
            try:
                while not stream.finished:
                    stream.post(conversation.available(-1, 0.0))
                    if not stream.step(self._intake.left_s(self._timeouts.chunk_s)):
                        self._await_more(conversation, stream.posted)
            except WrongBytes as wrong:
                raise self._corrupt(conversation, wrong) from None
            finally:
                stream.close()
                self._joiner.phases.add("digest", stream.digest_s)

    def _await_more(self, conversation: Conversation, posted: int) -> None:
        """Waits for the source to announce more. A relay that lives but gets nothing itself goes through its
        own attempts first, hence the patience."""
        timeouts = self._timeouts
        patience_s = timeouts.join_s + timeouts.link_s + 2 * timeouts.chunk_s
        until_s = time.monotonic() + patience_s
        while conversation.available(posted, _LOOK_EVERY_S) <= posted:
            self._intake.left_s(1.0)
            if time.monotonic() > until_s:
                reason = f"{self._source} is there, but had nothing new for {patience_s:g} s"
                conversation.stop(reason)
                raise AttemptFailed("wire", Outcome.LOST, reason)

    def _corrupt(self, conversation: Conversation, wrong: WrongBytes) -> AttemptFailed:
        # A source whose weights are being changed said so before it changed them.
        ending = conversation.ended_within(_GRACE_S)
        if ending is not None and ending.how is How.ABORTED:
            return AttemptFailed("wire", Outcome.LOST, f"{self._source} aborted: {ending.reason}")
        reason = f"chunk {wrong.chunk.index} arrived with other bytes than the manifest's digest"
        conversation.stop(reason)
        return AttemptFailed("digest", Outcome.CORRUPT, f"from {self._source}: {reason}")

    def _goodbye(self, conversation: Conversation, manifest: Manifest) -> None:
        """Everything is here and right: whatever happens to the connection now does not matter."""
        finish(self._joiner.weights.device)
        with contextlib.suppress(ConversationEnded):
            conversation.say(Label.DONE, chunks=len(manifest.chunks), bytes=manifest.total_bytes)
        conversation.ended_within(_GOODBYE_S)

    def _failure(
        self, phase: str, error: Exception, conversation: Conversation | None = None
    ) -> AttemptFailed:
        """The attempt's failure, with the reason that the source gave where it gave one."""
        ending = error.ending if isinstance(error, ConversationEnded) else None
        if conversation is not None:
            ending = conversation.ended_within(_GRACE_S)
            if ending is None:
                conversation.stop(str(error))
        if ending is None:
            return AttemptFailed(phase, Outcome.LOST, f"{self._source}: {error}")
        if ending.how is How.REFUSED:
            return AttemptFailed(phase, Outcome.REFUSED, f"{self._source}: {ending.reason}")
        verb = "aborted" if ending.how is How.ABORTED else "was lost"
        return AttemptFailed(phase, Outcome.LOST, f"{self._source} {verb}: {ending.reason}")

    # Peers without the extension ----------------------------------------------------------------------

    def _from_legacy(self, sock: socket.socket, hosted: Hosted, ack: Ack) -> Finished:
        joiner = self._joiner
        if joiner.options.verify == "required":
            raise AttemptFailed(
                "join",
                Outcome.REFUSED,
                f"{self._source} does not speak the extension: nothing on that wire proves dtypes,"
                " order or content. Run this release of ascendctl there, or write VERIFY: if-offered to take"
                " it unproven",
            )
        prefix = group_prefix(_host_of(ack.name, hosted.ip), hosted.port, joiner.group)
        try:
            with self._phase("wire", link="legacy") as told:
                told["bytes"] = count = receive_legacy(
                    sock=sock,
                    store=hosted.store,
                    prefix=prefix,
                    local_ip=hosted.ip,
                    device=joiner.weights.device,
                    tensors=joiner.legacy,
                    shapes=ack.transfer_shapes,
                    link_s=self._intake.left_s(self._timeouts.link_s),
                    chunk_s=self._intake.left_s(self._timeouts.chunk_s),
                )
        except LegacyMismatch as error:
            raise AttemptFailed("join", Outcome.REFUSED, f"refused {self._source}: {error}") from None
        except (LinkError, ControlError) as error:
            raise AttemptFailed("wire", Outcome.LOST, f"{self._source}: {error}") from None
        self._intake.bytes += count
        return Finished(verified=False)

    @contextlib.contextmanager
    def _phase(self, name: str, **fields: object) -> Iterator[dict[str, object]]:
        with self._joiner.phases.phase(name, source=self._source, **fields) as told:
            yield told


class _first(contextlib.AbstractContextManager["_first"]):  # noqa: N801
    """A block that may be closed before its end, well."""

    def __init__(self, inner: contextlib.AbstractContextManager[object]) -> None:
        self._inner = inner
        self.is_open = False

    def __enter__(self) -> _first:
        self._inner.__enter__()
        self.is_open = True
        return self

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._inner.__exit__(None, None, None)

    def __exit__(self, *raised: object) -> None:
        if self.is_open:
            self.is_open = False
            self._inner.__exit__(*raised)  # type: ignore[arg-type]


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise AttemptFailed("join", Outcome.REFUSED, f"it sends on to no address: {error}") from None


def _host_of(name: str, default: str) -> str:
    """The host in the ACK's name: this joiner's address as the source sees it."""
    try:
        return Address.parse(name).host
    except ValueError:
        return default
