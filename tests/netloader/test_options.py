"""The loader's configuration: what is taken, what is refused with which words, what the user is told."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from ascendctl.netloader.engine.fields import FIELDS
from ascendctl.netloader.engine.options import (
    MIB,
    Address,
    Options,
    OptionsError,
    Timeouts,
    draft_address,
    listen_port_of,
    read_options,
)

TOKEN = "0123456789abcdef-secret"
ONE = [{"device_id": 0, "sources": ["10.0.0.1:19374"]}]


def problems(extra: Any) -> tuple[str, ...]:
    with pytest.raises(OptionsError) as caught:
        read_options(extra)
    return caught.value.problems


def config_file(folder: Path, text: str | bytes, mode: int = 0o600) -> str:
    path = folder / "netloader.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1:19374", "10.0.0.1", 19374),
        ("seed-0.netloader.svc:1", "seed-0.netloader.svc", 1),
        ("node_1:65535", "node_1", 65535),
        ("[fd00::1]:2333", "fd00::1", 2333),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1", 'write "host:port"'),
        (":2333", 'write "host:port"'),
        ("", 'write "host:port"'),
        ("http://10.0.0.1:2333", "with a scheme"),
        ("fd00::1:2333", "needs brackets"),
        ("[10.0.0.1]:2333", "no IPv6 address in the brackets"),
        ("[fd00::1:2333", 'write "host:port"'),
        ("10.0.0.1:0", "port is no number"),
        ("10.0.0.1:65536", "port is no number"),
        ("10.0.0.1:1000000000000", "port is no number"),
        ("10.0.0.1:²", "port is no number"),
        ("10.0.0.1: 80", "port is no number"),
        ("10.0.0.256:80", "neither an IP address nor a name"),
        ("a b:80", "neither an IP address nor a name"),
        ("-a:80", "neither an IP address nor a name"),
        ("0.0.0.0:80", "no address to connect to"),
        ("[::]:80", "no address to connect to"),
    ],
)
def test_what_is_no_address_is_told(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="saw ") as caught:
        Address.parse(text)
    assert words in str(caught.value)


def test_nothing_given_is_a_seed_with_every_default() -> None:
    for nothing in ({}, None, {"SOURCE": []}, dict.fromkeys(FIELDS)):
        assert read_options(nothing) == Options()
    assert Options().timeouts == Timeouts(5, 10, 30, 60, None)
    assert (Options().fallback, Options().verify, Options().transport) == ("disk", "required", "auto")
    assert Options().chunk_bytes == 32 * MIB


def test_every_field_arrives(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    options = read_options(
        {
            "SOURCE": [
                {"device_id": 1, "sources": ["10.0.0.2:19375"]},
                {"device_id": 0, "sources": ["10.0.0.2:19374", "[fd00::3]:19374"]},
            ],
            "MODEL": "tiny",
            "LISTEN_PORT": "19000",
            "INT8_CACHE": "HBM",
            "INT8_CACHE_NAME": ["down_proj", "gate"],
            "OUTPUT_PREFIX": str(tmp_path / "rank"),
            "FALLBACK": "error",
            "VERIFY": "if-offered",
            "CHAIN": True,
            "TOKEN_FILE": str(token),
            "TRANSPORT": "host",
            "BANDWIDTH_MIB_S": 1.5,
            "CHUNK_MIB": 128,
            "CONNECT_TIMEOUT": 1,
            "JOIN_TIMEOUT": 2.5,
            "LINK_TIMEOUT": 3,
            "CHUNK_TIMEOUT": 4,
            "TOTAL_TIMEOUT": 600,
        }
    )
    assert dict(options.sources) == {
        0: (Address("10.0.0.2", 19374), Address("fd00::3", 19374)),
        1: (Address("10.0.0.2", 19375),),
    }
    assert (options.model, options.listen_port) == ("tiny", 19000)
    assert (options.int8_cache, options.int8_cache_names) == ("hbm", ("down_proj", "gate"))
    assert options.output_prefix == str(tmp_path / "rank")
    assert (options.fallback, options.verify, options.chain) == ("error", "if-offered", True)
    assert options.token == TOKEN.encode()
    assert (options.transport, options.bandwidth_bytes_s, options.chunk_bytes) == (
        "host",
        1.5 * MIB,
        128 * MIB,
    )
    assert options.timeouts == Timeouts(1, 2.5, 3, 4, 600)


def test_a_single_int8_name_may_stand_without_a_list() -> None:
    assert read_options({"INT8_CACHE": "dram", "INT8_CACHE_NAME": "down"}).int8_cache_names == ("down",)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"SOURCE": "10.0.0.1:1"}, "SOURCE: saw '10.0.0.1:1'", "write a list such as"),
    ({"SOURCE": {}}, "SOURCE: saw {}", "write a list such as"),
    ({"SOURCE": [7]}, "SOURCE[0]: saw 7", "write an object"),
    ({"SOURCE": [{"device_id": 0}]}, "SOURCE[0]: sources is missing", "write a list such as"),
    ({"SOURCE": [{"device_id": 0, "sources": []}]}, "SOURCE[0].sources: saw []", "write a list"),
    ({"SOURCE": [{"device_id": 0, "sources": "a:1"}]}, "SOURCE[0].sources: saw 'a:1'", "write a list"),
    ({"SOURCE": [{"device_id": 0, "sources": [1]}]}, "SOURCE[0].sources[0]: saw 1", '"host:port"'),
    ({"SOURCE": [{"device_id": 0, "sources": ["a"]}]}, "SOURCE[0].sources[0]: saw 'a'", '"host:port"'),
    ({"SOURCE": [{"sources": ["a:1"]}]}, "SOURCE[0]: device_id is missing", "global rank"),
    ({"SOURCE": [{"device_id": "0", "sources": ["a:1"]}]}, "saw '0'", "write 0 without quotes"),
    ({"SOURCE": [{"device_id": True, "sources": ["a:1"]}]}, "saw True", "0 or more"),
    ({"SOURCE": [{"device_id": -1, "sources": ["a:1"]}]}, "saw -1", "0 or more"),
    ({"SOURCE": [{"device_id": 0.0, "sources": ["a:1"]}]}, "saw 0.0", "0 or more"),
    (
        {"SOURCE": [{"device_id": 0, "sources": ["a:1"], "source": ["b:1"]}]},
        "no such key 'source'",
        "did you mean sources?",
    ),
    ({"SOURCE": ONE + ONE}, "SOURCE[1]: device_id 0 a second time", "in one entry"),
    ({"SOURCE": [{"device_id": 0, "sources": ["a:1", "a:1"]}]}, "a:1 stands twice", "listener of its own"),
    (
        {"SOURCE": [{"device_id": 0, "sources": ["a:1"]}, {"device_id": 3, "sources": ["a:1"]}]},
        "SOURCE[1]: a:1 stands for device_id 0 and 3",
        "listener of its own",
    ),
    ({"MODEL": 1}, "MODEL: saw 1", "in quotes"),
    ({"MODEL": ""}, "MODEL: saw ''", "leave it out"),
    ({"LISTEN_PORT": 1023}, "LISTEN_PORT: saw 1023", "1024 to 65535"),
    ({"LISTEN_PORT": 65536}, "LISTEN_PORT: saw 65536", "1024 to 65535"),
    ({"LISTEN_PORT": True}, "LISTEN_PORT: saw True", "1024 to 65535"),
    ({"LISTEN_PORT": 2000.0}, "LISTEN_PORT: saw 2000.0", "1024 to 65535"),
    ({"LISTEN_PORT": "+2000"}, "LISTEN_PORT: saw '+2000'", "1024 to 65535"),
    ({"LISTEN_PORT": "9" * 5000}, "LISTEN_PORT: saw '999", "1024 to 65535"),
    ({"INT8_CACHE": "yes"}, "INT8_CACHE: saw 'yes'", '"no" or "hbm" or "dram"'),
    ({"INT8_CACHE": False}, "INT8_CACHE: saw False", '"no" or "hbm" or "dram"'),
    ({"INT8_CACHE_NAME": [1]}, "INT8_CACHE_NAME: saw [1]", "write a list of names"),
    ({"INT8_CACHE_NAME": [""]}, "INT8_CACHE_NAME: saw ['']", "write a list of names"),
    ({"OUTPUT_PREFIX": 1}, "OUTPUT_PREFIX: saw 1", "beginning of a path"),
    ({"OUTPUT_PREFIX": "/no/such/folder/rank"}, "no folder /no/such/folder", "make it"),
    ({"CONFIG_FILE": 1}, "CONFIG_FILE: saw 1", "in quotes"),
    ({"CONFIG_FILE": "/no/such/file"}, "CONFIG_FILE: /no/such/file cannot be read", "No such file"),
    ({"CONFIG_FILE": "/dev/null"}, "CONFIG_FILE: /dev/null is not a regular file", "write the path"),
    ({"CONFIG_FILE": "a\0b"}, "CONFIG_FILE: ", "cannot be read"),
    ({"FALLBACK": "none"}, "FALLBACK: saw 'none'", '"disk" or "error"'),
    ({"VERIFY": True}, "VERIFY: saw True", '"required" or "if-offered"'),
    ({"CHAIN": "true"}, "CHAIN: saw 'true'", "true or false, without quotes"),
    ({"CHAIN": 1}, "CHAIN: saw 1", "true or false"),
    ({"TRANSPORT": "nccl"}, "TRANSPORT: saw 'nccl'", '"auto" or "host"'),
    ({"BANDWIDTH_MIB_S": 0}, "BANDWIDTH_MIB_S: saw 0", "write a number from"),
    ({"BANDWIDTH_MIB_S": float("nan")}, "BANDWIDTH_MIB_S: saw nan", "write a number from"),
    ({"BANDWIDTH_MIB_S": float("inf")}, "BANDWIDTH_MIB_S: saw inf", "write a number from"),
    ({"CHUNK_MIB": 0}, "CHUNK_MIB: saw 0", "whole number from 1 to 128"),
    ({"CHUNK_MIB": 129}, "CHUNK_MIB: saw 129", "whole number from 1 to 128"),
    ({"CHUNK_MIB": 2.0}, "CHUNK_MIB: saw 2.0", "whole number from 1 to 128"),
    ({"CONNECT_TIMEOUT": "5"}, "CONNECT_TIMEOUT: saw '5'", "without quotes"),
    ({"JOIN_TIMEOUT": True}, "JOIN_TIMEOUT: saw True", "write a number from"),
    ({"LINK_TIMEOUT": 0}, "LINK_TIMEOUT: saw 0", "write a number from 0.1"),
    ({"CHUNK_TIMEOUT": -1}, "CHUNK_TIMEOUT: saw -1", "write a number from 0.1"),
    ({"TOTAL_TIMEOUT": 1e9}, "TOTAL_TIMEOUT: saw 1000000000.0", "to 86400"),
    ({"TOKEN": 5}, "TOKEN: saw a number", "write a text"),
    ({"TOKEN": "short"}, "TOKEN: 5 bytes can be guessed", "16 or more"),
    ({"TOKEN": TOKEN, "TOKEN_FILE": "/x"}, "TOKEN: TOKEN_FILE is given too", "write one of them"),
    ({"TOKEN_FILE": "/no/such/file"}, "TOKEN_FILE: /no/such/file cannot be read", "No such file"),
    ({"TOKEN_FILE": 1}, "TOKEN_FILE: saw 1", "path of a file"),
    ({"SOURCES": ONE}, "'SOURCES': no such field", "did you mean SOURCE?"),
    ({"source": ONE}, "'source': no such field", "did you mean SOURCE?"),
    ({"LISTENPORT": 2000}, "'LISTENPORT': no such field", "did you mean LISTEN_PORT?"),
    ({"enable_multithread_load": True}, "no such field", ", ".join(FIELDS)),
]


@pytest.mark.parametrize(("extra", "seen", "wanted"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_a_wrong_field_says_what_was_seen_and_what_to_write(
    extra: dict[str, Any], seen: str, wanted: str
) -> None:
    (problem,) = problems(extra)
    assert seen in problem
    assert wanted in problem


def test_all_problems_are_told_at_once() -> None:
    assert len(problems({"LISTEN_PORT": 1, "CHAIN": 2, "VERIFY": 3, "X": 4})) == 4


def test_a_configuration_that_is_no_object() -> None:
    assert "write a JSON object" in problems(["SOURCE"])[0]


def test_an_error_crosses_processes_with_its_words() -> None:
    with pytest.raises(OptionsError) as caught:
        read_options({"CHAIN": 2})
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.problems == caught.value.problems
    assert str(again) == str(caught.value)


# CONFIG_FILE ---------------------------------------------------------------------------------------------


def test_the_files_source_wins_and_other_inline_fields_stay(tmp_path: Path) -> None:
    path = config_file(tmp_path, json.dumps({"SOURCE": ONE, "CHAIN": True}))
    inline = [{"device_id": 0, "sources": ["10.9.9.9:1"]}]
    options = read_options({"CONFIG_FILE": path, "SOURCE": inline, "LISTEN_PORT": 19000})
    assert dict(options.sources) == {0: (Address("10.0.0.1", 19374),)}
    assert (options.listen_port, options.chain) == (19000, True)
    told = "\n".join(options.notes)
    assert "its SOURCE is used, the inline one is not" in told
    assert "the inline LISTEN_PORT stays in force" in told
    assert "vllm-ascend's code takes the file alone" in told


def test_a_file_that_says_the_same_as_the_command_line_needs_no_word(tmp_path: Path) -> None:
    path = config_file(tmp_path, b"\xef\xbb\xbf" + json.dumps({"SOURCE": ONE}).encode())
    assert read_options({"CONFIG_FILE": path, "SOURCE": ONE}).notes == ()


def test_a_null_in_the_file_does_not_take_the_inline_value_away(tmp_path: Path) -> None:
    path = config_file(tmp_path, json.dumps({"SOURCE": ONE, "LISTEN_PORT": None}))
    assert read_options({"CONFIG_FILE": path, "LISTEN_PORT": 19000}).listen_port == 19000


FILES: list[tuple[str | bytes, str]] = [
    ("[]", "holds a list; write one JSON object"),
    ("7", "holds a number; write one JSON object"),
    ("null", "holds a null; write one JSON object"),
    ("{}", "holds no field"),
    ("", "not valid JSON"),
    ('{"SOURCE": ', "line 1"),
    ("[" * 100_000, "not valid JSON"),
    (b"\xff\xfe", "not valid JSON"),
    ('{"CHAIN": true, "CHAIN": false}', "'CHAIN' stands twice"),
    ('{"CHUNK_TIMEOUT": NaN}', "NaN is no JSON value"),
    ('{"CONFIG_FILE": "x"}', "names a further CONFIG_FILE"),
    ('{"CHAIM": true}', "did you mean CHAIN?"),
]


@pytest.mark.parametrize(("text", "words"), FILES, ids=[str(n) for n in range(len(FILES))])
def test_a_file_that_cannot_be_used_is_never_a_silent_default(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    path = config_file(tmp_path, text)
    (problem,) = problems({"CONFIG_FILE": path, "LISTEN_PORT": 19000})
    assert path in problem
    assert words in problem


def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for field in ("CONFIG_FILE", "TOKEN_FILE"):
        assert "not a regular file" in problems({field: str(pipe)})[0]


# The token -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o666])
def test_a_token_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(mode)
    (problem,) = problems({"TOKEN_FILE": str(path)})
    assert f"mode {mode:04o}" in problem
    assert "chmod 600" in problem


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("\n")
    path.chmod(0o600)
    assert "0 bytes can be guessed" in problems({"TOKEN_FILE": str(path)})[0]


def test_a_token_in_a_config_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"TOKEN": TOKEN})
    assert read_options({"CONFIG_FILE": config_file(tmp_path, text)}).token == TOKEN.encode()
    (problem,) = problems({"CONFIG_FILE": config_file(tmp_path, text, 0o644)})
    assert "others can read it" in problem


def test_the_token_is_shown_nowhere(tmp_path: Path) -> None:
    options = read_options({"TOKEN": TOKEN})
    assert any(note.startswith("TOKEN: ") and "TOKEN_FILE" in note for note in options.notes)
    broken = config_file(tmp_path, f'{{"TOKEN": "{TOKEN}" x')
    shown = [repr(options), *options.notes]
    for extra in ({"TOKEN": [TOKEN]}, {"TOKN": TOKEN}, {"CONFIG_FILE": broken}, {"TOKEN": TOKEN[:10]}):
        shown += problems(extra)
    assert not [text for text in shown if TOKEN[:10] in text]


# Ports ---------------------------------------------------------------------------------------------------


def test_a_listener_takes_the_base_and_its_rank() -> None:
    options = read_options({"LISTEN_PORT": 19000})
    assert [listen_port_of(options, rank, False) for rank in (0, 7)] == [19000, 19007]
    assert listen_port_of(options, 3, True) == 29003
    assert listen_port_of(Options(), 3, True) is None


@pytest.mark.parametrize(
    ("base", "rank", "draft", "lower"),
    [(65535, 1, False, 65534), (60000, 0, True, 55535), (55535, 1, True, 55534)],
)
def test_a_listener_beyond_the_last_port_is_refused(base: int, rank: int, draft: bool, lower: int) -> None:
    options = read_options({"LISTEN_PORT": base})
    with pytest.raises(OptionsError, match=f"write {lower} or lower"):
        listen_port_of(options, rank, draft)
    assert listen_port_of(read_options({"LISTEN_PORT": lower}), rank, draft) == 65535


def test_a_draft_listens_beside_its_target() -> None:
    assert draft_address(Address("a", 19000)) == Address("a", 29000)
    assert draft_address(Address("a", 55535)) == Address("a", 65535)
    assert draft_address(Address("a", 55536)) is None


# Notes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"MODEL": "m"}, "vllm-ascend's code compares --model"),
        ({"LISTEN_PORT": 65535}, "vllm-ascend's code skips it"),
        ({"LISTEN_PORT": 50000}, "a draft model's 60000 + rank meets HCCL's own ports 60000-60031"),
        ({"LISTEN_PORT": 49985}, "a draft model's 59985 + rank meets"),
        ({"LISTEN_PORT": 60031}, "LISTEN_PORT: 60031 + rank meets"),
        ({"INT8_CACHE": "dram"}, "refuses a peer whose value is not dram"),
        ({"INT8_CACHE": "hbm", "INT8_CACHE_NAME": ["x"]}, "anywhere in a parameter's name"),
        ({"INT8_CACHE_NAME": ["x"]}, "has no effect"),
        ({"FALLBACK": "error"}, "without SOURCE the weights are read from disk"),
    ],
)
def test_where_guide_and_code_differ_the_user_is_told(extra: dict[str, Any], words: str) -> None:
    assert words in "\n".join(read_options(extra).notes)


@pytest.mark.parametrize(
    "extra",
    [
        {"LISTEN_PORT": 19000},
        {"LISTEN_PORT": 49984},
        {"LISTEN_PORT": 50032},
        {"INT8_CACHE": "no"},
        {"SOURCE": ONE},
    ],
)
def test_a_plain_configuration_needs_no_word(extra: dict[str, Any]) -> None:
    assert read_options(extra).notes == ()
