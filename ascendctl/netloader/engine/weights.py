"""The tensors of a model as bytes to send and receive: from where they lie, or packed where they are small.

A tensor whose elements lie without gaps is sent in the order of its memory, whatever the order of its axes;
any other one (a slice of a larger tensor) in the order of its elements. Which of the two holds follows from
shape and stride alone, so both sides agree on what the bytes mean. The first kind needs no copy, unless it
lies on another device than the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ascendctl.netloader.engine.digest import Digester, Pending
from ascendctl.netloader.engine.manifest import (
    DEFAULT_CHUNK_BYTES,
    ITEM_BYTES,
    PLAIN_FORMAT,
    SMALL_BYTES,
    Chunk,
    Entry,
    Layout,
    Manifest,
    ManifestError,
    Piece,
    bytes_of,
    plain_stride,
)

# Digests under way at once while a whole model is digested: bounds the memory of packs that wait for theirs.
_DIGESTS_AHEAD = 4

Named = Iterable[tuple[str, torch.Tensor]]


class WeightSetError(ValueError):
    """Tensors that cannot be sent or received as they are; the words name them and say why."""


@dataclass(frozen=True)
class Incoming:
    """Where the bytes of one chunk are received: ``buffer``, 1-D uint8 on the device of the set.

    :meth:`commit` moves them to the tensors of a pack, once they were verified. A buffer that is part of a
    tensor has nothing to move: there the tensor holds the bytes from the moment they come.
    """

    buffer: torch.Tensor
    _moves: tuple[_Move, ...] = ()
    _targets: tuple[torch.Tensor, ...] = ()
    _parts: tuple[torch.Tensor, ...] = ()

    def commit(self) -> None:
        """On a device: in the order of the current stream."""
        # Also for tensors that were made in inference mode, which may not be written to outside of it.
        with torch.inference_mode():
            if self._targets:
                torch._foreach_copy_(self._targets, self._parts)
            for move in self._moves:
                move.tensor.write(move.offset, move.part)


class WeightSet:
    """The tensors of one rank: ``manifest`` (without digests), and the bytes of its chunks.

    Any chunk of a manifest with equal entries will do, so a joiner uses those of its source. ``device``:
    where chunks are sent from and received; by default where most bytes lie. ``format_of``: the name of the
    memory format of a tensor; only "ND" can be sent. Raises :class:`WeightSetError` for tensors without
    memory of their own, in another format, or that share only a part of their bytes with others.
    """

    def __init__(
        self,
        named: Named,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        layout: Layout = "raw",
        *,
        small_bytes: int = SMALL_BYTES,
        device: torch.device | None = None,
        format_of: Callable[[torch.Tensor], str] = lambda tensor: PLAIN_FORMAT,
    ) -> None:
        tensors, aliases = _without_ties(_checked(named, format_of))
        _check_overlaps(tensors)
        entries = tuple(_entry(name, tensor) for name, tensor in tensors.items())
        try:
            self.manifest = Manifest(
                entries, aliases, chunk_bytes=chunk_bytes, layout=layout, small_bytes=small_bytes
            )
        except ManifestError as error:
            raise WeightSetError(str(error)) from error
        self.device = _main_device(tensors) if device is None else device
        self._tensors = tuple(_Bytes(tensor, self.device) for tensor in tensors.values())

    @property
    def total_bytes(self) -> int:
        return self.manifest.total_bytes

    def released(self) -> tuple[str, ...]:
        """The names of tensors whose memory was given back since (a storage resized to nothing)."""
        pairs = zip(self.manifest.entries, self._tensors, strict=True)
        return tuple(entry.name for entry, held in pairs if entry.nbytes and not held.has_memory())

    def outgoing(self, chunk: Chunk, into: torch.Tensor | None = None) -> torch.Tensor:
        """The bytes of ``chunk`` now, 1-D uint8: part of a tensor where it can be, else a copy.

        The copy is made in ``into`` (1-D uint8 of at least the chunk's size, on the device), if given.
        """
        target = None if into is None else into[: chunk.nbytes]
        if len(chunk.pieces) == 1:
            piece = chunk.pieces[0]
            return self._tensors[piece.entry].read(piece.offset, piece.nbytes)
        parts = [self._tensors[piece.entry].read(piece.offset, piece.nbytes) for piece in chunk.pieces]
        return torch.cat(parts) if target is None else torch.cat(parts, out=target)

    def incoming(self, chunk: Chunk, staging: torch.Tensor | None = None) -> Incoming:
        """Where to receive ``chunk``: part of a tensor where it can be, else the beginning of ``staging``.

        ``staging``: 1-D uint8 of at least the chunk's size, on the device; allocated where None.
        """
        if len(chunk.pieces) == 1:
            piece = chunk.pieces[0]
            flat = self._tensors[piece.entry].flat
            if flat is not None:
                return Incoming(flat[piece.offset : piece.offset + piece.nbytes])
        if staging is None:
            staging = torch.empty(chunk.nbytes, dtype=torch.uint8, device=self.device)
        buffer = staging[: chunk.nbytes]
        moves: list[_Move] = []
        targets: list[torch.Tensor] = []
        parts: list[torch.Tensor] = []
        for piece, part in zip(chunk.pieces, buffer.split([p.nbytes for p in chunk.pieces]), strict=True):
            tensor = self._tensors[piece.entry]
            if tensor.flat is None:
                moves.append(_Move(tensor, piece.offset, part))
            else:
                targets.append(_part(tensor.flat, piece))
                parts.append(part)
        return Incoming(buffer, tuple(moves), tuple(targets), tuple(parts))


def digest_all(weights: WeightSet) -> Manifest:
    """The manifest of ``weights`` with the digests of their bytes as they are now."""
    digests: list[bytes] = []
    waiting: list[Pending] = []
    with Digester(weights.device) as digester:
        for chunk in weights.manifest.chunks:
            waiting.append(digester.submit(weights.outgoing(chunk)))
            if len(waiting) > _DIGESTS_AHEAD:
                digests.append(waiting.pop(0).result())
        digests.extend(pending.result() for pending in waiting)
    return weights.manifest.with_digests(digests)


def collect_raw(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """All parameters and buffers (also those that no checkpoint holds), each under each of its names.

    Before vLLM's post-processing this is all that its result depends on. Order: that of the module tree.
    """
    return [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]


def collect_legacy_raw(model: nn.Module, side: Literal["source", "joiner"]) -> list[tuple[str, torch.Tensor]]:
    """What vllm-ascend sends (``source``) or receives (``joiner``) one by one in its raw layout.

    Its two sides leave out different tensors: parameters derived at a source, scalars at a joiner. Where that
    makes a difference, the two lists do not fit each other.
    """
    if side == "source":
        return [(name, tensor) for name, tensor in model.named_parameters() if _DERIVED not in name]
    return [(name, tensor) for name, tensor in model.named_parameters() if tensor.dim() > 0]


def collect_processed(
    model: nn.Module, on_device: Callable[[torch.Tensor], bool]
) -> list[tuple[str, torch.Tensor]]:
    """What vllm-ascend (from its third generation on) sends in its processed layout, in its order.

    Parameters, buffers, then tensors in public attributes of modules: in lists, tuples and dicts, and behind
    ``impl`` in public attributes of objects too. Of tensors at one address only the first counts; those
    without elements, on the meta device or not ``on_device`` (there: on an NPU) do not. A name is the path.
    """
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers(), *_attributes(model)):
        if not tensor.is_meta and tensor.numel() > 0 and on_device(tensor):
            found.setdefault(tensor.data_ptr(), (name, tensor))
    return list(found.values())


# vllm-ascend's prefix of parameters that its W8A8 post-processing derives from others.
_DERIVED = "aclnn_input_scale"


def _attributes(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    # One for the whole model: every attention layer refers to the same configuration.
    visited: set[int] = set()
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and not isinstance(value, nn.Module):
                full = f"{path}.{name}" if path else name
                yield from _tensors_in(full, value, visited, into_objects=name == "impl")


def _tensors_in(
    path: str, value: Any, visited: set[int], into_objects: bool
) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
        return
    if isinstance(value, nn.Module | str | bytes) or callable(value) or id(value) in visited:
        return
    members: Iterable[tuple[object, Any]]
    if isinstance(value, list | tuple):
        members = enumerate(value)
    elif isinstance(value, dict):
        members = value.items()
    elif into_objects and hasattr(value, "__dict__"):
        members = [(name, member) for name, member in vars(value).items() if not name.startswith("_")]
    else:
        return
    visited.add(id(value))
    for name, member in members:
        yield from _tensors_in(f"{path}.{name}", member, visited, into_objects)


class _Bytes:
    """The bytes of one tensor in the order in which they are sent.

    ``flat``: all of them as a view, None where they must be gathered.
    """

    def __init__(self, tensor: torch.Tensor, device: torch.device) -> None:
        distinct = distinct_elements(tensor)
        if distinct.numel() > 0 and _is_dense(distinct):
            distinct = distinct.as_strided((distinct.numel(),), (1,))
        # Without an axis there is nothing to cut.
        self._tensor = distinct if distinct.dim() else distinct.reshape(1)
        self._device = device
        gathered = not self._tensor.is_contiguous() or self._tensor.device != device
        self.flat = None if gathered else self._tensor.view(-1).view(torch.uint8)

    def has_memory(self) -> bool:
        return _has_memory(self._tensor)

    def read(self, offset: int, nbytes: int) -> torch.Tensor:
        """These bytes, on the device of the set: a view, or gathered."""
        if self.flat is not None:
            return self.flat if nbytes == len(self.flat) else self.flat[offset : offset + nbytes]
        first, rows = self._rows(offset, nbytes)
        return _bytes(rows).to(self._device)[offset - first : offset - first + nbytes]

    def write(self, offset: int, part: torch.Tensor) -> None:
        """Replaces the bytes from ``offset`` on, where they are not a view."""
        first, rows = self._rows(offset, len(part))
        # Whole rows are written, of which a neighbouring piece may hold the other bytes.
        gathered = rows.contiguous().clone()
        _bytes(gathered)[offset - first : offset - first + len(part)].copy_(part)
        rows.copy_(gathered)

    def _rows(self, offset: int, nbytes: int) -> tuple[int, torch.Tensor]:
        """The part of the first axis that holds these bytes, and at which byte it begins."""
        row_bytes = self._tensor.nbytes // len(self._tensor)
        first = offset // row_bytes
        return first * row_bytes, self._tensor[first : -(-(offset + nbytes) // row_bytes)]


@dataclass(frozen=True)
class _Move:
    tensor: _Bytes
    offset: int
    part: torch.Tensor


def _bytes(rows: torch.Tensor) -> torch.Tensor:
    return rows.contiguous().view(-1).view(torch.uint8)


def _part(flat: torch.Tensor, piece: Piece) -> torch.Tensor:
    return flat if piece.nbytes == len(flat) else flat[piece.offset : piece.offset + piece.nbytes]


def _checked(named: Named, format_of: Callable[[torch.Tensor], str]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in named:
        reason = _refusal(tensor, format_of)
        if reason is not None:
            raise WeightSetError(f"tensor {name!r} {reason}")
        # Neither gradients nor what a subclass makes of operations belong to bytes.
        yield name, tensor.detach().as_subclass(torch.Tensor)


def _refusal(tensor: torch.Tensor, format_of: Callable[[torch.Tensor], str]) -> str | None:
    if nn.parameter.is_lazy(tensor):
        return "is not initialised: its shape is not known yet"
    if tensor.is_meta:
        return "is on the meta device: it has no bytes"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"has the layout {tensor.layout}, not a plain one"
    if tensor.is_conj() or tensor.is_neg():
        return "is a conjugated or negated view of another tensor"
    if _dtype(tensor) not in ITEM_BYTES:
        return f"has the dtype {tensor.dtype}, which cannot be sent"
    memory_format = format_of(tensor)
    if memory_format != PLAIN_FORMAT:
        return f"is in the format {memory_format}: only {PLAIN_FORMAT} can be sent"
    if tensor.numel() and not _has_memory(tensor):
        return "has lost its memory (released, as in sleep mode?)"
    if not _is_one_to_one(distinct_elements(tensor)):
        return "has elements that share their memory"
    return None


def _entry(name: str, tensor: torch.Tensor) -> Entry:
    shape, dtype = tuple(tensor.shape), _dtype(tensor)
    stride = plain_stride(shape, tensor.stride())
    return Entry(name, dtype, shape, stride, bytes_of(dtype, shape, stride))


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _without_ties(named: Named) -> tuple[dict[str, torch.Tensor], tuple[tuple[str, str], ...]]:
    """Each tensor under its first name, and the further names of those that have several."""
    tensors: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    first_names: dict[object, str] = {}
    for name, tensor in named:
        if name in tensors or name in aliases:
            raise WeightSetError(f"the name {name!r} occurs twice")
        first = first_names.setdefault(same_place(tensor), name) if tensor.numel() else name
        if first == name:
            tensors[name] = tensor
        else:
            aliases[name] = first
    return tensors, tuple(aliases.items())


def same_place(tensor: torch.Tensor) -> object:
    """Equal for two tensors that are the same elements of the same memory."""
    stride = plain_stride(tensor.shape, tensor.stride())
    return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), stride


def _main_device(tensors: Mapping[str, torch.Tensor]) -> torch.device:
    nbytes: dict[torch.device, int] = {}
    for tensor in tensors.values():
        nbytes[tensor.device] = nbytes.get(tensor.device, 0) + tensor.nbytes
    return max(nbytes, key=lambda device: nbytes[device], default=torch.device("cpu"))


def distinct_elements(tensor: torch.Tensor) -> torch.Tensor:
    """One of the elements along each axis of stride 0: the others are the same one."""
    for axis, (size, step) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if step == 0 and size > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


def _axes(tensor: torch.Tensor) -> list[tuple[int, int]]:
    """(stride, size) of the axes that address anything, the fastest first."""
    return sorted((step, size) for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size != 1)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill their memory without gap or overlap, in any order of the axes."""
    expected = 1
    for step, size in _axes(tensor):
        if step != expected:
            return False
        expected *= size
    return True


def _is_one_to_one(tensor: torch.Tensor) -> bool:
    """Whether no two elements share memory: each axis steps over all that the faster ones reach."""
    reached = 0
    for step, size in _axes(tensor):
        if step <= reached and tensor.numel():
            return False
        reached += step * (size - 1)
    return True


def _span(tensor: torch.Tensor) -> int:
    """Bytes from the first to the last element, both included."""
    steps: int = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return (steps + 1) * int(tensor.element_size())


def _has_memory(tensor: torch.Tensor) -> bool:
    begin = tensor.storage_offset() * tensor.element_size()
    return bool(begin + _span(tensor) <= tensor.untyped_storage().nbytes())


def _check_overlaps(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises where a byte belongs to two tensors: the one written last would decide what it holds."""
    placed = sorted(
        ((str(tensor.device), tensor.data_ptr(), name) for name, tensor in tensors.items() if tensor.numel())
    )
    cluster: list[str] = []
    device, end = "", 0
    for where, begin, name in placed:
        if where != device or begin >= end:
            _check_cluster(cluster, tensors)
            cluster, device, end = [], where, 0
        cluster.append(name)
        end = max(end, begin + _span(tensors[name]))
    _check_cluster(cluster, tensors)


def _check_cluster(names: list[str], tensors: Mapping[str, torch.Tensor]) -> None:
    """For tensors whose spans meet: whether they interleave (slices of one tensor) or share bytes."""
    if len(names) < 2:
        return
    distinct = {name: distinct_elements(tensors[name]) for name in names}
    if all(_is_dense(tensor) for tensor in distinct.values()):
        raise _overlap(names[1], names[:1])
    begin = min(tensor.data_ptr() for tensor in distinct.values())
    end = max(tensor.data_ptr() + _span(tensor) for tensor in distinct.values())
    taken = torch.zeros(end - begin, dtype=torch.bool)
    for position, (name, tensor) in enumerate(distinct.items()):
        item = tensor.element_size()
        own = taken.as_strided(
            (*tensor.shape, item),
            (*(step * item for step in tensor.stride()), 1),
            tensor.data_ptr() - begin,
        )
        if own.any():
            raise _overlap(name, names[:position])
        own.fill_(True)


def _overlap(name: str, others: list[str]) -> WeightSetError:
    return WeightSetError(
        f"tensor {name!r} shares part of its bytes with another one ({', '.join(map(repr, others[-3:]))}?): "
        "only tensors that are the same as a whole can be sent as one"
    )
