"""The commands: the guide's word for word, and what is run, as a shell reads it."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from ascendctl.netloader import command as c
from ascendctl.netloader.command import Command, command, env_sh, run_sh, script
from ascendctl.netloader.engine.options import read_options
from ascendctl.netloader.placing import joined
from ascendctl.netloader.plan import Engine, Instance, Place, Role, Serving, Source

# user_guide/feature_guide/netloader.md of vllm-ascend, its placeholders filled in.
GUIDES_SERVER = """\
VLLM_SLEEP_WHEN_IDLE=1 vllm serve /models/Qwen3-8B \\
  --tensor-parallel-size 1 \\
  --served-model-name qwen3 \\
  --enforce-eager \\
  --port 8000 \\
  --load-format netloader
"""
GUIDES_CLIENT = """\
export NETLOADER_CONFIG='{"SOURCE":[{"device_id":0, "sources": ["10.0.0.1:19374"]}]}'

VLLM_SLEEP_WHEN_IDLE=1 ASCEND_RT_VISIBLE_DEVICES=1 \\
  vllm serve /models/Qwen3-8B \\
  --tensor-parallel-size 1 \\
  --served-model-name qwen3 \\
  --enforce-eager \\
  --port 8001 \\
  --load-format netloader \\
  --model-loader-extra-config="${NETLOADER_CONFIG}"
"""
GUIDES = Serving("/models/Qwen3-8B", served_model_name="qwen3", enforce_eager=True)
UGLY = "/models/a b'c\"$(touch pwned)`id`;&|<>*?~#\\\n/ü"


def instance(serving: Serving = GUIDES, role: Role = Role.SEED, **changes: Any) -> Instance:
    return replace(Instance("n1.1", role, Place("n1", ""), serving, port=8000), **changes)


def joiner(serving: Serving = GUIDES, *, ranks: int = 1, **changes: Any) -> Instance:
    made = instance(serving, Role.JOINER, place=Place("n1", "", (1,)), port=8001, **changes)
    return joined(made, [Source.at("10.0.0.1:19374", ranks)])


def config(found: Command) -> dict[str, Any]:
    assert found.config is not None
    given: dict[str, Any] = json.loads(found.config)
    return given


def test_the_guides_server_command_comes_out_word_for_word() -> None:
    assert command(instance()).text == GUIDES_SERVER


def test_the_guides_client_command_comes_out_word_for_word() -> None:
    assert command(joiner()).text == GUIDES_CLIENT


def test_what_the_guide_gets_wrong_is_a_note() -> None:
    for one in (instance(), joiner()):
        notes = command(one).notes
        assert c.BUFFER_NOTE in notes and c.SLEEP_NOTE in notes
    assert "HCCL_BUFFERSIZE" in c.BUFFER_NOTE and "HCCL_BUFFSIZE" in c.BUFFER_NOTE
    assert "VLLM_SLEEP_WHEN_IDLE" in c.SLEEP_NOTE
    wrong = command(instance(place=Place("n1", "", environment=(("HCCL_BUFFERSIZE", "200"),))))
    assert "HCCL_BUFFERSIZE is set and nothing reads it" in wrong.notes[0]


def test_notes_follow_from_the_plan() -> None:
    assert c.RANDOM_PORT_NOTE in command(instance()).notes
    draft = replace(GUIDES, engine_args=("--speculative-config", "{}"))
    assert c.RANDOM_DRAFT_PORT_NOTE in command(instance(draft)).notes
    fixed = command(instance(listen_port=19374)).notes
    assert c.RANDOM_PORT_NOTE not in fixed and c.CONNECT_BACK_NOTE not in fixed
    assert {c.CONNECT_BACK_NOTE, c.FALLBACK_NOTE} <= set(command(joiner()).notes)
    assert command(instance(replace(GUIDES, engine=Engine.OWN))).notes == ()


def test_source_is_written_for_every_rank() -> None:
    serving = replace(GUIDES, tp=2, pp=2)
    made = instance(serving, Role.JOINER, port=8001, listen_port=19400)
    found = command(joined(made, [Source.at("10.0.0.1:19374", 4), Source.at("10.0.0.2:19380", 4)]))
    assert config(found) == {
        "SOURCE": [
            {"device_id": rank, "sources": [f"10.0.0.1:{19374 + rank}", f"10.0.0.2:{19380 + rank}"]}
            for rank in range(4)
        ],
        "LISTEN_PORT": 19400,
    }


def test_the_loaders_fields_are_those_of_the_serving() -> None:
    serving = replace(
        GUIDES,
        int8_cache="hbm",
        int8_cache_names=("down_proj",),
        output_prefix="/run/n/rank",
        dtype="bfloat16",
    )
    found = command(instance(serving, listen_port=19374))
    assert config(found) == {
        "LISTEN_PORT": 19374,
        "INT8_CACHE": "hbm",
        "INT8_CACHE_NAME": ["down_proj"],
        "OUTPUT_PREFIX": "/run/n/rank",
    }
    assert config(command(instance(replace(GUIDES, config_file="/etc/n.json")))) == {
        "CONFIG_FILE": "/etc/n.json"
    }


def test_the_own_engine_understands_what_is_written_for_it() -> None:
    serving = Serving("/m", Engine.OWN, tp=2, fallback="error", verify="required")
    found = command(joiner(serving, ranks=2, listen_port=19374))
    options = read_options(config(found))
    assert {rank: [str(one) for one in given] for rank, given in options.sources.items()} == {
        0: ["10.0.0.1:19374"],
        1: ["10.0.0.1:19375"],
    }
    assert (options.fallback, options.verify, options.chain) == ("error", "required", True)
    assert options.listen_port == 19374
    assert "--load-format" in found.argv and found.argv[found.argv.index("--load-format") + 1] == "ascendctl"
    assert "VLLM_SLEEP_WHEN_IDLE" not in dict(found.environment)
    seed = command(instance(serving, listen_port=19374))
    assert config(seed) == {"LISTEN_PORT": 19374, "CHAIN": True}


def test_a_token_is_named_by_its_file_only() -> None:
    found = command(joiner(Serving("/m", Engine.OWN, token_file="/run/token")))
    assert config(found)["TOKEN_FILE"] == "/run/token"
    assert "TOKEN" not in config(found)


def test_the_environment_holds_the_hosts_and_the_instances_own() -> None:
    given = (("HCCL_BUFFSIZE", "1024"), ("VLLM_SLEEP_WHEN_IDLE", "0"), ("ASCEND_RT_VISIBLE_DEVICES", "9"))
    found = command(instance(place=Place("n1", "10.0.0.2", (0,), given)))
    assert dict(found.environment) == {
        "HCCL_BUFFSIZE": "1024",
        "VLLM_HOST_IP": "10.0.0.2",
        "VLLM_SLEEP_WHEN_IDLE": "1",
        "ASCEND_RT_VISIBLE_DEVICES": "0",
    }
    assert "export VLLM_HOST_IP=10.0.0.2\n" in found.text


def test_secrets_of_the_environment_are_not_shown() -> None:
    place = Place("n1", "", environment=(("VLLM_API_KEY", "hunter2"), ("HF_TOKEN", "hunter3")))
    found = command(instance(place=place))
    assert "hunter" not in found.text and "hunter" not in " ".join(found.argv)
    assert "hunter2" in env_sh(found)


def test_another_launcher_takes_the_model_the_same_way() -> None:
    launcher = ("python3", "-m", "vllm.entrypoints.openai.api_server", "--model")
    assert command(instance(replace(GUIDES, launcher=launcher))).argv[:5] == (*launcher, "/models/Qwen3-8B")


PRINTER = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['LEFT'], sys.stdin.read()]))"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_no_value_is_ever_read_by_the_shell(shell: str, tmp_path: Any) -> None:
    serving = Serving(
        UGLY,
        served_model_name=UGLY,
        engine_args=("--x", UGLY),
        output_prefix=UGLY,
        launcher=("python3", "-c", PRINTER),
    )
    place = Place("n1", "10.0.0.2", (0,), (("LEFT", UGLY),))
    found = command(instance(serving, Role.SEED, place=place, listen_port=19374))
    # As text on standard input: what follows must not become the engine's own.
    done = subprocess.run(
        [shell, "-s"],
        input=script(found) + "echo behind\n",
        text=True,
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    argv, left, stdin = json.loads(done.stdout)
    assert argv == list(found.argv[3:]) and left == UGLY and stdin == ""
    assert json.loads(argv[-1].partition("=")[2])["OUTPUT_PREFIX"] == UGLY
    assert list(tmp_path.iterdir()) == []


def test_the_text_for_people_says_what_is_run(tmp_path: Any) -> None:
    serving = replace(GUIDES, model=UGLY, output_prefix=UGLY, launcher=("python3", "-c", PRINTER))
    found = command(joiner(serving, listen_port=19374))
    done = subprocess.run(
        ["sh", "-c", found.text],
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "LEFT": "x"},
        text=True,
        capture_output=True,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)[0] == list(found.argv[3:])


def test_the_line_that_runs_is_one_exec() -> None:
    line = run_sh(command(instance()))
    assert line.startswith("exec vllm serve ") and line.endswith(" </dev/null\n")
    assert shlex.split(line)[1:-1] == list(command(instance()).argv)


def test_all_addresses_of_an_ipv6_host_are_listened_on() -> None:
    found = command(instance(place=Place("n1", "fd00::1")))
    assert found.argv[found.argv.index("--host") + 1] == "::"
    assert "--host" not in command(instance(place=Place("n1", "10.0.0.1"))).argv
    bound = command(instance(replace(GUIDES, bind="address"), place=Place("n1", "fd00::1")))
    assert bound.argv[bound.argv.index("--host") + 1] == "fd00::1"
