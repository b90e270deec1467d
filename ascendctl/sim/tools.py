"""The one door to the two simulated tools: `answer`.

The two tools themselves are in `hccn_tool` and `npu_smi`; here calls find their tool, and the
misbehaviours that are a matter of text (garbage, a cut, permanent busyness) are laid over its answer.
Hanging and passing busyness happen in time and belong to the rendered stand-ins (`render`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ascendctl.sim import hccn_tool, npu_smi
from ascendctl.sim.answer import Answer
from ascendctl.sim.model import Cluster, Host, Misbehaviour

_GARBAGE_BYTES = 300


def answer(host: Host, argv: Sequence[str], cluster: Cluster | None = None) -> Answer:
    """What ``argv`` (tool name first, ``hccn_tool`` or ``npu-smi``) gives on ``host``, byte for byte.

    ``cluster`` is the network that a ping runs through; without one only the host itself is there.
    A tool that the host lacks is the caller's to leave out. Raises ValueError for any other program.
    """
    network = cluster or Cluster((host,))
    if argv[0] == "hccn_tool":
        plain = hccn_tool.answer(host, argv[1:], network)
    elif argv[0] == "npu-smi":
        plain = npu_smi.answer(host, argv[1:])
    else:
        raise ValueError(f"{argv[0]} is not a simulated tool")
    for misbehaviour in host.misbehaviours:
        if strikes(misbehaviour, host, argv):
            plain = _misbehaved(misbehaviour, host, argv, plain)
    return plain


def strikes(misbehaviour: Misbehaviour, host: Host, argv: Sequence[str]) -> bool:
    """Whether a misbehaviour concerns this call."""
    tool, *arguments = argv
    words, ids = _split(arguments)
    if tool != misbehaviour.tool or misbehaviour.words not in (None, words):
        return False
    die = None if misbehaviour.phy_id is None else host.die(misbehaviour.phy_id)
    if misbehaviour.phy_id is None:
        return True
    if tool == "hccn_tool" or die is None:
        return ids.get("-i") == str(misbehaviour.phy_id)
    return not ids or (ids.get("-i"), ids.get("-c")) == (str(die.npu_id), str(die.chip_id))


def _split(arguments: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The words of a call and its ids apart: ``-i 3 -link -g`` is ``(-link,)`` and ``{-i: 3}``.

    Of a ping the words end where it says whom it pings.
    """
    words, ids = [], {}
    rest = iter(arguments)
    for word in rest:
        if word == "address":
            break
        if word in ("-i", "-c"):
            ids[word] = next(rest, "")
        elif word != "-g":
            words.append(word)
    return tuple(words), ids


def _misbehaved(misbehaviour: Misbehaviour, host: Host, argv: Sequence[str], plain: Answer) -> Answer:
    if misbehaviour.form == "garbage":
        dice = random.Random(f"{host.name} {' '.join(argv)}")
        return Answer(dice.randbytes(_GARBAGE_BYTES))
    if misbehaviour.form == "truncated":
        return Answer(plain.stdout[: len(plain.stdout) // 2])
    if misbehaviour.form == "busy" and misbehaviour.times is None:
        return hccn_tool.refusal("busy")
    return plain
