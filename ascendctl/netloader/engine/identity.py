"""What an engine holds weights of: two engines may hand them over only where all of this is the same.

vllm-ascend compares the rank, the ``--model`` string, tp and pp; a different dtype, revision, quantisation or
expert layout passes there, and the weights are wrong. The fields here follow vLLM's own key of its weight
cache (``WeightCacheKey``: header hash, architecture, parallel sizes and ranks, dtype, quantisation, revision,
version, draft or not).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

PROTOCOL_VERSION = 1

_DIGEST_BYTES = 16
_LONGEST_TEXT = 512
# Where a Hugging Face configuration was loaded from, and by what: not part of what the model is.
_NOT_THE_MODEL = frozenset({"_name_or_path", "name_or_path", "_commit_hash", "transformers_version"})
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt")
_HEADER_LIMIT_BYTES = 256 * 1024 * 1024
_SAMPLES, _SAMPLE_BYTES = 4, 4096


class IdentityError(Exception):
    """No identity can be read there; ``str()`` says what is wrong with what."""


@dataclass(frozen=True)
class Identity:
    """The model, its partition and the software of one rank of one engine.

    Digests are in hex. ``weights_digest`` (:func:`weights_digest`) is None where the model folder holds no
    weight file, and then matches any. ``group`` is "target" or "draft". ``device_kind`` is what vLLM's
    platform calls its devices: "cpu", "cuda", "npu".
    """

    architecture: str
    config_digest: str
    dtype: str
    quantization: str | None
    quantization_digest: str | None
    revision: str | None
    tp_size: int
    tp_rank: int
    pp_size: int
    pp_rank: int
    dp_size: int
    dp_rank: int
    ep_size: int
    ep_rank: int
    global_rank: int
    group: str
    weights_digest: str | None
    vllm_version: str
    torch_version: str
    device_kind: str
    protocol: int = PROTOCOL_VERSION

    @property
    def digest(self) -> str:
        """32 hex digits, the same for any two identities without :func:`differences`, on whatever devices."""
        fields = self.to_json()
        for name in ("weights_digest", "device_kind"):
            del fields[name]
        for name in _VERSIONS:
            fields[name] = _release(str(fields[name]))
        return digest_of(fields)

    def to_json(self) -> dict[str, Any]:
        """The fields by name, for an IDENTITY frame."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: object) -> Identity:
        """The identity in the content of an IDENTITY frame; fields that are not known are dropped.
        Raises IdentityError, also where the peer speaks another protocol (its fields may mean otherwise)."""
        if not isinstance(fields, Mapping):
            raise IdentityError("it is no object")
        protocol = fields.get("protocol")
        if isinstance(protocol, int) and protocol != PROTOCOL_VERSION:
            raise IdentityError(
                f"protocol is {protocol} there and {PROTOCOL_VERSION} here: run the same release of ascendctl"
            )
        known = {}
        for name, types in _FIELD_TYPES.items():
            if name not in fields:
                raise IdentityError(f"{name} is missing")
            value = fields[name]
            if type(value) not in types:
                expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
                raise IdentityError(f"{name} is a {type(value).__name__}, not {expected}")
            if isinstance(value, str) and len(value) > _LONGEST_TEXT:
                raise IdentityError(f"{name} has {len(value)} characters, and {_LONGEST_TEXT} is the most")
            known[name] = value
        return cls(**known)


def differences(own: Identity, theirs: Identity, *, across_devices: bool = False) -> tuple[str, ...]:
    """Why the two may not hand over weights: every field that differs, with both values; () where they may.

    ``across_devices``: both asked to go through host memory; then the kind of device may differ, and so may
    what follows "+" in a version, which names the build for one kind.
    """
    found = []
    for field in dataclasses.fields(Identity):
        name = field.name
        mine, other = getattr(own, name), getattr(theirs, name)
        if name == "weights_digest" and None in (mine, other):
            continue
        if across_devices and name == "device_kind":
            continue
        if across_devices and name in _VERSIONS:
            mine, other = _release(mine), _release(other)
        if mine != other:
            found.append(f"{name} is {mine!r} here and {other!r} there")
    return tuple(found)


def config_digest(config: Mapping[str, object]) -> str:
    """Digest of a Hugging Face configuration (its ``to_dict()``) without what says only where it was loaded
    from. Values that are no JSON count by their text."""
    return digest_of(_model_only(config))


def digest_of(value: object) -> str:
    """32 hex digits of a JSON value, whatever the order of its keys. Values that are no JSON count by their
    text, so they must not hold an address of memory."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("ascii"), digest_size=_DIGEST_BYTES).hexdigest()


def weights_digest(folder: Path) -> str | None:
    """Digest of the weight files in ``folder``, None where there is none (or no such folder).

    Of each file: its name, its size, its header where it is a safetensors file, and a few samples of its
    data. The header alone is the same for every fine-tune of a model; reading all of it would take as long as
    the load that this is to save. So equal digests do not prove equal weights (the digests of the manifest
    prove what was sent); different ones prove that the folders differ. Splitting the same weights into files
    in another way gives another digest.

    Raises IdentityError where a file cannot be read or its header makes no sense.
    """
    files = _weight_files(folder)
    if not files:
        return None
    state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in files:
        try:
            for part in _parts(path):
                state.update(len(part).to_bytes(8, "big") + part)
        except OSError as error:
            raise IdentityError(f"{path} cannot be read: {error.strerror or error}") from None
    return state.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    """By the kind that vLLM would load: safetensors where there are any."""
    for pattern in _WEIGHT_FILES:
        try:
            files = sorted(path for path in folder.glob(pattern) if path.is_file())
        except OSError as error:
            raise IdentityError(f"{folder} cannot be read: {error.strerror or error}") from None
        if files:
            return files
    return []


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield os.fsencode(path.name)
        yield size.to_bytes(8, "big")
        start = 0
        if path.suffix == ".safetensors":
            # An 8-byte little-endian length and so many bytes of JSON, then the data.
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_HEADER_LIMIT_BYTES, size - 8):
                raise IdentityError(f"{path} is no safetensors file: its header cannot have {length} bytes")
            yield file.read(length)
            start = 8 + length
        for sample in range(_SAMPLES):
            file.seek(start + (size - start) * (2 * sample + 1) // (2 * _SAMPLES))
            yield file.read(_SAMPLE_BYTES)


def _model_only(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _model_only(item) for key, item in value.items() if key not in _NOT_THE_MODEL}
    if isinstance(value, (list, tuple)):
        return [_model_only(item) for item in value]
    return value


def _release(version: str) -> str:
    return version.partition("+")[0]


_VERSIONS = ("vllm_version", "torch_version")
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    name: get_args(hint) or (hint,) for name, hint in get_type_hints(Identity).items()
}
