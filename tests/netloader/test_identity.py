"""What two engines must have in common, field by field."""

from __future__ import annotations

import dataclasses
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascendctl.netloader.engine.identity import (
    Identity,
    IdentityError,
    config_digest,
    differences,
    digest_of,
    weights_digest,
)

OWN = Identity(
    architecture="LlamaForCausalLM", config_digest="ab" * 16, dtype="bfloat16", quantization="ascend",
    quantization_digest="cd" * 16, revision="main", tp_size=4, tp_rank=1, pp_size=2, pp_rank=0, dp_size=1,
    dp_rank=0, ep_size=1, ep_rank=0, global_rank=1, group="target", weights_digest="ef" * 16,
    vllm_version="0.32.0+cpu", torch_version="2.13.0+cpu", device_kind="cpu",
)  # fmt: skip

OTHER = {str: "other", int: 7}


def _changed(field: dataclasses.Field[object]) -> object:
    return 7 if isinstance(getattr(OWN, field.name), int) else "other"


@pytest.mark.parametrize("field", dataclasses.fields(Identity), ids=lambda field: field.name)
def test_every_field_that_differs_is_named_with_both_values(field: dataclasses.Field[object]) -> None:
    theirs = replace(OWN, **{field.name: _changed(field)})  # type: ignore[arg-type]
    own_value, their_value = getattr(OWN, field.name), getattr(theirs, field.name)
    assert differences(OWN, theirs) == (f"{field.name} is {own_value!r} here and {their_value!r} there",)


def test_several_differences_are_all_told_and_none_where_all_is_the_same() -> None:
    assert len(differences(OWN, replace(OWN, dtype="float16", revision=None, ep_size=4))) == 3
    assert differences(OWN, replace(OWN)) == ()


def test_a_folder_without_weights_matches_any_and_no_other_none_does() -> None:
    assert differences(OWN, replace(OWN, weights_digest=None)) == ()
    assert differences(replace(OWN, weights_digest=None), OWN) == ()
    assert replace(OWN, weights_digest=None).digest == OWN.digest
    for name in ("quantization", "quantization_digest", "revision"):
        assert differences(OWN, replace(OWN, **{name: None})), name  # type: ignore[arg-type]


def test_through_host_memory_devices_and_their_builds_may_differ_and_releases_may_not() -> None:
    gpu = replace(OWN, device_kind="cuda", vllm_version="0.32.0", torch_version="2.13.0+cu130")
    assert len(differences(OWN, gpu)) == 3
    assert differences(OWN, gpu, across_devices=True) == ()
    assert gpu.digest == OWN.digest
    assert len(differences(OWN, replace(gpu, vllm_version="0.31.0"), across_devices=True)) == 1
    assert len(differences(OWN, replace(gpu, dtype="float16"), across_devices=True)) == 1


@given(st.data())
def test_no_difference_means_the_same_digest(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from([f.name for f in dataclasses.fields(Identity)]), max_size=3))
    values = {
        name: data.draw(st.sampled_from([getattr(OWN, name), OTHER[type(getattr(OWN, name))]]))
        for name in names
    }
    theirs = replace(OWN, **values)
    if not differences(OWN, theirs, across_devices=True):
        assert theirs.digest == OWN.digest
    assert len(OWN.digest) == 32


@pytest.mark.parametrize("name", ["dtype", "tp_rank", "config_digest", "group", "protocol", "vllm_version"])
def test_what_always_counts_changes_the_digest(name: str) -> None:
    changed = replace(OWN, **{name: OTHER[type(getattr(OWN, name))]})  # type: ignore[arg-type]
    assert changed.digest != OWN.digest


def test_it_survives_a_frame_and_unknown_fields_are_dropped() -> None:
    sent = json.loads(json.dumps({**OWN.to_json(), "of a newer release": 1}))
    assert Identity.from_json(sent) == OWN


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dtype": None}, "dtype is a NoneType, not str"),
        ({"revision": 3}, "revision is a int, not str or null"),
        ({"tp_size": True}, "tp_size is a bool, not int"),
        ({"tp_size": 4.0}, "tp_size is a float, not int"),
        ({"architecture": "A" * 513}, "513 characters"),
        ({"protocol": 2}, "protocol is 2 there and 1 here"),
    ],
)
def test_what_is_no_identity_is_refused_in_words(changed: dict[str, object], words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        Identity.from_json({**OWN.to_json(), **changed})


def test_a_missing_field_is_named() -> None:
    fields = OWN.to_json()
    del fields["ep_rank"]
    with pytest.raises(IdentityError, match="ep_rank is missing"):
        Identity.from_json(fields)


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(ANY, st.sampled_from([field.name for field in dataclasses.fields(Identity)]))
def test_no_value_raises_anything_else(value: object, name: str) -> None:
    for fields in (value, {name: value}, {**OWN.to_json(), name: value}):
        try:
            identity = Identity.from_json(fields)
        except IdentityError:
            continue
        differences(OWN, identity)
        assert identity.digest


def test_where_a_configuration_was_loaded_from_does_not_count() -> None:
    config = {"hidden_size": 64, "text_config": {"layers": 2, "_name_or_path": "/a"}, "id2label": {0: "x"}}
    moved = {"transformers_version": "5.0", "_name_or_path": "/b", **config, "text_config": {"layers": 2}}
    assert config_digest(config) == config_digest(dict(reversed(moved.items())))
    assert config_digest(config) != config_digest({**config, "hidden_size": 65})
    assert config_digest(config) != config_digest({**config, "text_config": {"layers": 3}})


def test_digest_of_is_the_same_in_every_process_and_order() -> None:
    assert digest_of({"b": [1, None], "a": "ä"}) == digest_of({"a": "ä", "b": [1, None]})
    assert digest_of({"a": 1}) != digest_of({"a": "1"})


# Weight files --------------------------------------------------------------------------------------------


def _safetensors(path: Path, data: bytes, name: str = "w") -> None:
    header = json.dumps(
        {name: {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def test_a_folder_without_weight_files_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert weights_digest(tmp_path) is None
    assert weights_digest(tmp_path / "absent") is None


def test_the_same_files_elsewhere_have_the_same_digest(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        _safetensors(tmp_path / folder / "model.safetensors", bytes(100_000))
    (tmp_path / "b" / "README.md").write_text("another")
    (tmp_path / "b" / "pytorch_model.bin").write_bytes(b"not loaded next to safetensors")
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b") is not None


def test_header_size_names_and_data_count(tmp_path: Path) -> None:
    """Data too: a fine-tune has the header of the model it came from."""
    digests = []
    for number, (file, data, name) in enumerate(
        [
            ("model.safetensors", bytes(100_000), "w"),
            ("model.safetensors", bytes(100_000), "v"),
            ("model.safetensors", bytes(100_001), "w"),
            ("model.safetensors", b"\1" * 100_000, "w"),
            ("model-1.safetensors", bytes(100_000), "w"),
            ("empty.safetensors", b"", "w"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        _safetensors(folder / file, data, name)
        digests.append(weights_digest(folder))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pytorch_model.bin").write_bytes(bytes(100))
    digests.append(weights_digest(tmp_path / "bin"))
    assert None not in digests
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    "content", [b"", b"abc", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 0) + b"{}"]
)
def test_a_file_that_is_no_safetensors_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(IdentityError, match=r"model\.safetensors is no safetensors file"):
        weights_digest(tmp_path)
