"""Which parts lose the packets: the smallest set of parts that explains what the pings met.

Every packet survives with probability (1 - background) * product of (1 - loss of each part at fault on its
way), so the number of lost packets of a ping is binomial. An explanation is a set of parts with their
losses; its score is what the likelihood (natural logarithm) gains over background alone, less what its
parts cost. The search adds the part that gains most, estimates its neighbours anew, drops what became
superfluous, and then improves the explanation by leaving a part out and growing what is missing anew (one
host instead of its ports, two ports instead of a host), as long as the score rises.

The work is bounded whatever is lost: what many pings cross (a plane, the way between leaf switches) is
judged on packet counts that are kept up to date, parts whose pings lost nothing unexplained are skipped, and
improving ends after a stated number of looks at pings. What was not tried by then is said (`Blame.tried`).

What a part costs is the logarithm of how many such parts there are, so that chance never finds one among
many, plus what is asked beyond that. One host therefore costs less than its sixteen ports.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ascendctl.topology.fabric import Fabric, Port, PortId
from ascendctl.topology.mesh import Observation
from ascendctl.topology.parts import BOTH, ROCE, Key, Part, PartKind, Ways


@dataclass(frozen=True)
class Blame:
    """A part at fault: the share of packets it loses, and how sure that is.

    ``gain`` is what the log likelihood loses without it. ``confidence`` is the odds of this part against each
    part that could stand in its place and against none, as a probability. ``pings``, ``sent`` and ``lost``
    count what crossed it, ``observations`` those pings that lost some; ``alternatives`` explain the
    data nearly as well in its place, with how much worse (0 = equally well). ``ports``: those of the part.
    ``tried`` is False where the search ended before it could try to explain the losses without this part.
    """

    part: Part
    loss: float
    gain: float
    confidence: float
    pings: int
    sent: int
    lost: int
    observations: tuple[Observation, ...] = ()
    alternatives: tuple[tuple[Part, float], ...] = ()
    ports: tuple[Port, ...] = ()
    tried: bool = True


@dataclass(frozen=True)
class Suspicion:
    """A part that may be at fault and is not sure enough to be accused: ``short`` by so many nats."""

    part: Part
    ports: tuple[Port, ...]
    short: float
    observations: tuple[Observation, ...]


@dataclass(frozen=True)
class Explanation:
    """What the pings say: parts at fault, the one that explains most first; suspects; the loss elsewhere."""

    blames: tuple[Blame, ...]
    suspicions: tuple[Suspicion, ...]
    background: float


# What a part must gain beyond chance among all of its kind: 4 nats are odds of 55 to 1.
_ASKED: Mapping[PartKind, float] = {
    PartKind.PORT: 4.0,
    PartKind.NPU: 4.0,
    PartKind.HOST: 4.0,
    PartKind.SWITCH: 4.0,
    PartKind.UPLINK: 5.0,
    PartKind.SPINE: 6.0,
    PartKind.SPLIT: 5.0,
    PartKind.PLANE: 8.0,
    PartKind.LINK: 8.0,
}
# A port seldom fails in both planes at once; an NPU or a host seldom in one alone.
_UNUSUAL = 1.5
_FIRST_BACKGROUND = 0.001
_MOST_BACKGROUND = 0.01
_LEAST_LOSS = 0.01
_MOST_LOSS = 0.9999
# A part is accused only if at most four others explain its pings as well: naming one of more is a guess.
_LEAST_CONFIDENCE = 0.2
# Alternatives closer than this (odds of 20 to 1) cannot be told from the verdict.
_CLOSE = 3.0
# A part is suspected from this gain on (odds of 150 to 1 were there only this part): two packets lost.
_SUSPECTED = 5.0
_MAX_SUSPICIONS = 64
_MAX_PARTS = 256
_MAX_IMPROVED = 48
_BETTER = 1e-6
# A lost packet is explained where less than this share survives.
_EXPLAINED = 0.02
# Above this many candidates or pings it pays to leave out what cannot matter.
_MANY = 2000
# Improving ends after so many looks at a ping: a second or two. Random faults need far less.
_MOST_LOOKS = 600_000
# Without the trial, no better than this can be said of a part.
_UNTRIED_CONFIDENCE = 0.9
# What stands in for a part that lost packets on more pings than this is no single pair of devices.
_MANY_LOSSY = 200
# A part is estimated anew at once where it shares more than this part of its pings with what is new.
_SHARED = 0.02
# Parts that pings through many others cross: judged on counts.
_WIDE = (PartKind.SPLIT, PartKind.SPINE, PartKind.PLANE)
# Parts that belong to one host.
_OF_HOST = (PartKind.PORT, PartKind.NPU, PartKind.HOST)
# What stands in for a part is on this share of the pings that need it; so many are enough to look at.
_STANDS_IN = 0.5
_ENOUGH_PINGS = 64
# A part holds another if that lost this share of its pings within it.
_HELD = 0.8
# How often ports without a known switch are put behind one at fault, and the search is made again.
_MOST_REJOINED = 2


def find_blame(fabric: Fabric, observations: Sequence[Observation]) -> tuple[Blame, ...]:
    """The parts at fault, the one that explains most first; nothing where chance explains the losses."""
    return _accused_and_guessed(_explained(fabric, observations))[0]


def explain(fabric: Fabric, observations: Sequence[Observation]) -> Explanation:
    """The parts at fault, and what is suspected beside them."""
    search = _explained(fabric, observations)
    accused, guessed = _accused_and_guessed(search)
    suspicions = (*map(_suspected, guessed), *search.suspicions())
    return Explanation(accused, suspicions, search.residual_loss())


def _explained(fabric: Fabric, observations: Sequence[Observation]) -> _Search:
    """The best explanation, with ports that hear no switch put where they seem to be."""
    search = _searched(Ways(fabric, observations))
    for _ in range(_MOST_REJOINED):
        joined = search.perhaps_behind_blamed()
        if not joined:
            break
        again = _searched(Ways(fabric, observations, joined), search.joined_cost(joined))
        if again.score() <= search.score():
            break
        search = again
    return search


def _accused_and_guessed(search: _Search) -> tuple[tuple[Blame, ...], tuple[Blame, ...]]:
    """The parts at fault that are sure enough to be accused, and those that are not."""
    found = search.blames()
    accused = tuple(blame for blame in found if blame.confidence >= _LEAST_CONFIDENCE)
    return accused, tuple(blame for blame in found if blame.confidence < _LEAST_CONFIDENCE)


def _suspected(blame: Blame) -> Suspicion:
    """A part that explains losses which others would explain as well or better: to be pinged again."""
    short = math.log(_LEAST_CONFIDENCE / max(blame.confidence, 1e-9))
    return Suspicion(blame.part, blame.ports, short, blame.observations)


def _searched(ways: Ways, assumed: float = 0.0) -> _Search:
    """The best explanation; ``assumed`` is what was paid for in advance."""
    search = _Search(ways, _FIRST_BACKGROUND, assumed)
    search.run()
    background = search.residual_loss()
    if background > 2 * _FIRST_BACKGROUND:
        search = _Search(ways, min(background, _MOST_BACKGROUND), assumed)
        search.run()
    return search


class _Search:
    """The search for the best explanation: ``loss`` holds the parts at fault so far."""

    def __init__(self, ways: Ways, background: float, assumed: float = 0.0) -> None:
        self._ways = ways
        self._background = background
        self._assumed = assumed
        self.loss: dict[Key, float] = {}
        self._paid = 0.0  # what these cost
        # Pings on whose way parts at fault lie: those, and what survives there by the explanation.
        self._blamed_on: dict[int, tuple[Key, ...]] = {}
        self._survival: dict[int, float] = {}
        # What survives the wide parts at fault, by class; and the ends whose pings any other part was put on.
        self._wide_survival = [1.0] * len(ways.class_sums)
        self._touched: set[int] = set()
        # For pings that cross the same wide parts: survival -> packets sent and lost.
        self._groups: list[dict[float, list[int]]] = [{1.0: list(sums)} for sums in ways.class_sums]
        self._open_of_end = ways.lossy_of_ends()
        self.looks = 0
        self._most_looks = math.inf
        self.evaluated = 0
        self._untried: set[Key] = set()
        self._cost_of = {kind: asked + math.log(1 + ways.counts[kind]) for kind, asked in _ASKED.items()}
        self._cheapest = min(self._cost_of.values())
        self._known_costs: dict[tuple[PartKind, int], float] = {}
        self._sums = ways.suspects()
        self._crossing: dict[Key, list[int]] = {}
        self._lossy_of: dict[Key, list[int]] = {}
        self._rivals_of: dict[Key, list[Key]] = {}
        self._held_by: dict[Key, list[Key]] = {}
        self._known_alone: dict[tuple[int, int], tuple[float, float]] = {}
        # A part explains most when it is alone: what it gains then bounds what it can gain beside others.
        self._alone = {key: self._best_alone(*sums)[0] - self.cost(key) for key, sums in self._sums.items()}
        self._candidates = {key: score for key, score in self._alone.items() if score > -_CLOSE}

    def cost(self, key: Key) -> float:
        """What a part costs; depends on its kind, and on the planes that usually fail together there.

        Whom a split puts to a side although no ping shows it could as well be on the other one.
        """
        kind, plane, number = key
        if kind is PartKind.SPLIT:
            return self._cost_of[kind] + math.log(2) * self._ways.split_guesses[number]
        known = self._known_costs.get((kind, plane))
        if known is None:
            known = self._known_costs[kind, plane] = self._cost(kind, plane)
        return known

    def _cost(self, kind: PartKind, plane: int) -> float:
        if kind is PartKind.PLANE and plane == ROCE:
            return _ASKED[kind] + math.log(2)  # there is one; the others are super pods
        if kind is PartKind.PORT:
            unusual = plane == BOTH
        else:
            unusual = kind in (PartKind.NPU, PartKind.HOST) and plane != BOTH
        return self._cost_of[kind] + (_UNUSUAL if unusual else 0.0)

    def run(self) -> None:
        """Find the best explanation."""
        self._grow(self._candidates)
        self._improve()

    # --- moves ------------------------------------------------------------------------------------

    def _grow(self, candidates: Iterable[Key], budget: float = math.inf, to_beat: float = -math.inf) -> None:
        """Add the candidate that gains most, again and again, until none gains more than it costs.

        ``budget``: what the parts at fault may come to cost beyond what they cost now. Ends early where the
        score can no longer come above ``to_beat``, or where the time for improving is over.
        """
        limit = budget + self._paid
        trying = to_beat > -math.inf
        reached = self._score() if trying else 0.0
        waiting = [(-self._alone[key], key) for key in candidates if self._alone[key] > 0]
        heapq.heapify(waiting)
        many = len(waiting) > _MANY
        refused: list[Key] = []
        stale: set[Key] = set()
        removals = 0
        while waiting and len(self.loss) < _MAX_PARTS:
            _, key = heapq.heappop(waiting)
            if key in self.loss or self._paid + self.cost(key) > limit or (many and not self._is_open(key)):
                continue
            gain, loss = self._gain(key, self.cost(key))
            score = gain - self.cost(key)
            if score <= 0 or loss < _LEAST_LOSS:
                refused.append(key)
                continue
            if waiting and score < -waiting[0][0] - _BETTER:
                heapq.heappush(waiting, (-score, key))
                continue
            if trying:
                # Nobody still waiting gains more than this one does.
                if reached + score * self._affordable(limit) <= to_beat:
                    reached = self._score()
                    if reached + score * self._affordable(limit) <= to_beat:
                        return
                if self.looks > self._most_looks:
                    return
                reached += score
            self._put(key, loss)
            near = self._blamed_near(key, stale)
            removed = self._settle(key, near) if near else []
            if removed and removals < _MAX_PARTS:
                removals += 1
                again = self._crossed_by(removed) if many else None
                for other in refused:
                    if again is None or other in again:
                        heapq.heappush(waiting, (-self._alone[other], other))
                refused = [other for other in refused if again is not None and other not in again]
        for key in stale:
            if key in self.loss:
                self._settle(key, [])

    def _affordable(self, limit: float) -> float:
        """How many more parts there may be at fault at most, until they cost this much."""
        return min((limit - self._paid) / self._cheapest, _MAX_PARTS - len(self.loss))

    def _is_open(self, key: Key) -> bool:
        """Whether a ping to or from the ends of a part lost packets although it should have lost none."""
        if key[0] in _WIDE:
            groups = self._groups_of(key).items()
            return any(lost and survival > _EXPLAINED for survival, (_, lost) in groups)
        if key[0] is PartKind.PORT and key[1] != BOTH:
            return self._open_of_end[2 * key[2] + key[1]] > 0
        return any(self._open_of_end[end] for end in self._ways.ends(key))

    def _crossed_by(self, parts: Iterable[Key]) -> set[Key]:
        """Every part that pings cross which lost packets on their way through these."""
        return {key for part in parts for ping in self._lossy(part) for key in self._ways.parts_of(ping)}

    def _settle(self, new: Key, near: Sequence[Key]) -> list[Key]:
        """Estimate a part and its neighbours anew; leave out, and return, whom it made superfluous."""
        removed: list[Key] = []
        for _ in range(6 if near else 1):
            moved = 0.0
            for key in [*near, new]:
                if key not in self.loss:
                    continue
                before = self._take(key)
                gain, loss = self._gain(key)
                if gain > self.cost(key) and loss >= _LEAST_LOSS:
                    self._put(key, loss)
                    moved = max(moved, abs(loss - before))
                else:
                    removed.append(key)
                    moved = 1.0
            if moved < 0.005:
                break
        return removed

    def _improve(self) -> None:
        """Leave out one part at a time and grow what is missing anew; try what holds several parts.

        A part that was tried is tried again only when something on the way of its pings has changed.
        """
        self._most_looks = float(self.looks + _MOST_LOOKS)
        tried: set[Key] = set()
        for _ in range(8):
            improved = False
            for key in sorted(self.loss, key=lambda key: self._sums[key][1])[:_MAX_IMPROVED]:
                if key not in self.loss or key in tried:
                    continue
                before = dict(self.loss)
                if self._without(key) or self._holding(key):
                    improved = True
                    self._held_by.clear()
                    tried -= self._near_changes(before)
                elif self.looks <= self._most_looks:
                    tried.add(key)
                if self.looks > self._most_looks:
                    self._untried = {other for other in self.loss if other not in tried}
                    return
            if not improved:
                return

    def _near_changes(self, before: Mapping[Key, float]) -> set[Key]:
        """Parts at fault on the way of pings whose explanation has changed."""
        changed = [
            key
            for key in {**before, **self.loss}
            if abs(before.get(key, 0.0) - self.loss.get(key, 0.0)) > 0.005
        ]
        on = self._blamed_on
        return {other for key in changed for ping in self._lossy(key) for other in on.get(ping, ())}

    def _without(self, key: Key) -> bool:
        """Try the explanation without this part."""
        budget = self.cost(key) + self._unevenness(key)
        rivals = [other for other in self._rivals(key) if self.cost(other) < budget]
        if not rivals:
            return False
        kept, before = dict(self.loss), self._score()
        self._take(key)
        self._grow(rivals, budget, before)
        if self._score() > before + _BETTER:
            return True
        self._go_back(kept)
        return False

    def _holding(self, key: Key) -> bool:
        """Try parts that hold this one and others at fault in their place, as a host holds its ports."""
        if len(self.loss) < 2:
            return False
        before = self._score()
        loss = self._take(key)
        owed = before - self._score()
        self._put(key, loss)
        larger = {
            rival
            for rival in self._rivals(key)
            if self._sums[rival][1] > self._sums[key][1] and self._alone[rival] > owed
        }
        mine = _spread(self._lossy(key))
        on = Counter(other for ping in mine for other in self._ways.parts_of(ping) if other in larger)
        for rival in (other for other, number in on.items() if number >= _HELD * len(mine)):
            inside = [other for other in self._held(rival) if other != key]
            if not inside:
                continue
            kept = dict(self.loss)
            for other in (key, *inside):
                self._take(other)
            gain, loss = self._gain(rival)
            if gain > 0 and loss >= _LEAST_LOSS:
                self._put(rival, loss)
                budget = sum(self.cost(other) for other in (key, *inside)) + self._unevenness(rival)
                open_gain = sum(self._unevenness(other) for other in (key, *inside))
                if self._score() + open_gain > before:
                    parts = (key, *inside)
                    self._grow(
                        {other for part in parts for other in (part, *self._rivals(part))}, budget, before
                    )
                if self._score() > before + _BETTER:
                    return True
            self._go_back(kept)
        return False

    def _held(self, rival: Key) -> list[Key]:
        """Parts at fault that lost nearly all they lost on pings through this one.

        What is tried and taken back leaves them as they were.
        """
        known = self._held_by.get(rival)
        if known is None:
            on, lossy = self._blamed_on, self._lossy(rival)
            self.looks += len(lossy)
            inside = Counter(other for ping in lossy for other in on.get(ping, ()))
            held = [other for other in self.loss if inside[other] >= _HELD * len(self._lossy(other))]
            known = self._held_by[rival] = held
        return known

    def _unevenness(self, key: Key) -> float:
        """What the log likelihood could gain at most if every port behind a part lost at a rate of its own.

        No other explanation of the same pings may cost more than the part does and this together. Pings
        that other parts at fault lie on are apart from the rest: one rate for both would fit neither.
        """
        ways, get = self._ways, self._survival.get
        alive = 1.0 - self._background
        self.looks += len(self._pings(key))
        ends: dict[tuple[int, float], list[int]] = {}
        for ping, end in zip(self._pings(key), ways.ends_within(key, self._pings(key)), strict=True):
            sums = ends.setdefault((end, get(ping, 1.0)), [0, 0])
            sums[0] += ways.sent[ping]
            sums[1] += ways.lost[ping]
        return sum(
            _log_likelihood(1.0 - lost / sent, sent, lost) - _log_likelihood(alive * survival, sent, lost)
            for (_, survival), (sent, lost) in ends.items()
        )

    def _go_back(self, kept: dict[Key, float]) -> None:
        for key in list(self.loss):
            if kept.get(key) != self.loss[key]:
                self._take(key)
        for key, loss in kept.items():
            if key not in self.loss:
                self._put(key, loss)
        self.loss = kept
        self._paid = sum(map(self.cost, kept))

    def _rivals(self, key: Key) -> list[Key]:
        """Candidates on the way of the pings that a part lost packets of, the part itself left out."""
        known = self._rivals_of.get(key)
        if known is None:
            found: dict[Key, None] = {}
            lossy = self._lossy(key)
            with_links = len(lossy) <= _MANY_LOSSY
            for ping in lossy[
                :: 1 + len(lossy) // _MANY
            ]:  # what stands in for a large part is on most of them
                for other in self._ways.parts_of(ping, with_link=with_links):
                    if other in self._candidates:
                        found[other] = None
            found.pop(key, None)
            known = self._rivals_of[key] = list(found)
        return [other for other in known if other not in self.loss]

    def _stand_ins(self, key: Key) -> Iterable[Key]:
        """Candidates that could stand in for a part, which is not at fault at the moment, all by themselves.

        Without it most of the pings that nobody else explains would be left to chance.
        """
        lossy = self._lossy(key)
        open_ones = [ping for ping in lossy if self._survival.get(ping, 1.0) > _EXPLAINED]
        needing = _spread(open_ones or lossy)
        with_links = len(lossy) <= _MANY_LOSSY
        on = Counter(other for ping in needing for other in self._ways.parts_of(ping, with_link=with_links))
        for other, number in on.items():
            fit = number >= _STANDS_IN * len(needing) and other in self._candidates
            if fit and other != key and other not in self.loss:
                yield other

    def _blamed_near(self, key: Key, stale: set[Key]) -> list[Key]:
        """Parts at fault that pings through this part cross as well.

        Those that share hardly any with it are added to ``stale`` instead: it moves them little.
        """
        on = self._blamed_on
        shared = Counter(other for ping in self._pings(key) for other in on.get(ping, ()))
        shared.pop(key, None)
        near = {other for other, pings in shared.items() if pings > _SHARED * len(self._pings(other))}
        stale.update(other for other in shared if other not in near)
        return [other for other in self.loss if other in near]

    # --- the explanation --------------------------------------------------------------------------

    def _put(self, key: Key, loss: float) -> None:
        self.loss[key] = loss
        self._paid += self.cost(key)
        survival, on, pings = self._survival, self._blamed_on, self._pings(key)
        before = [survival.get(ping, 1.0) for ping in pings]
        for ping, now in zip(pings, before, strict=True):
            survival[ping] = now * (1.0 - loss)
            on[ping] = (*on[ping], key) if ping in on else (key,)
        self._regroup(pings, before)
        if key[0] in _WIDE:
            self._class_survival(key)
        else:
            for ping in pings:
                self._touched.update(self._ways.ends_of(ping))

    def _take(self, key: Key) -> float:
        loss = self.loss.pop(key)
        self._paid -= self.cost(key)
        survival, on, pings = self._survival, self._blamed_on, self._pings(key)
        before = [survival[ping] for ping in pings]
        for ping in pings:
            rest = tuple(other for other in on[ping] if other != key) if len(on[ping]) > 1 else ()
            if rest:
                on[ping] = rest
                survival[ping] = math.prod(1.0 - self.loss[other] for other in rest)
            else:
                del on[ping], survival[ping]
        self._regroup(pings, before)
        if key[0] in _WIDE:
            self._class_survival(key)
        return loss

    def _class_survival(self, changed: Key) -> None:
        loss, parts = self.loss, self._ways.class_parts
        for number in self._ways.classes_through(changed):
            self._wide_survival[number] = math.prod(1.0 - loss[key] for key in parts[number] if key in loss)

    def _regroup(self, pings: Sequence[int], before: Iterable[float]) -> None:
        """Count pings where their survival is now."""
        self.looks += len(pings)
        ways, get = self._ways, self._survival.get
        moves: dict[tuple[int, float, float], list[int]] = {}
        for ping, was in zip(pings, before, strict=True):
            move = ways.class_of[ping], was, get(ping, 1.0)
            lost = ways.lost[ping]
            sums = moves.get(move)
            if sums is None:
                moves[move] = [ways.sent[ping], lost]
            else:
                sums[0] += ways.sent[ping]
                sums[1] += lost
            if lost and (was > _EXPLAINED) != (move[2] > _EXPLAINED):
                for end in ways.ends_of(ping):
                    self._open_of_end[end] += 1 if move[2] > _EXPLAINED else -1
        for (number, was, now), (sent, lost) in moves.items():
            groups = self._groups[number]
            for survival, sign in ((round(was, 6), -1), (round(now, 6), 1)):
                group = groups.setdefault(survival, [0, 0])
                group[0] += sign * sent
                group[1] += sign * lost
                if not group[0]:
                    del groups[survival]

    def _pings(self, key: Key) -> list[int]:
        pings = self._crossing.get(key)
        if pings is None:
            pings = self._crossing[key] = self._ways.crossing(key)
        return pings

    def _lossy(self, key: Key) -> list[int]:
        lossy = self._lossy_of.get(key)
        if lossy is None:
            lost = self._ways.lost
            lossy = self._lossy_of[key] = [ping for ping in self._pings(key) if lost[ping]]
        return lossy

    def _score(self) -> float:
        """What the log likelihood gains by the explanation, less its cost."""
        alive = 1.0 - self._background
        gained = 0.0
        for groups in self._groups:
            for survival, (sent, lost) in groups.items():
                if survival < 1.0:
                    gained += _log_likelihood(alive * survival, sent, lost)
                    gained -= _log_likelihood(alive, sent, lost)
        return gained - self._paid

    def score(self) -> float:
        """The explanation's score, less what was assumed for it."""
        return self._score() - self._assumed

    # --- ports that hear no switch ----------------------------------------------------------------

    def perhaps_behind_blamed(self) -> dict[PortId, str]:
        """Ports that hear no switch and lose packets as those behind a switch at fault do: that switch."""
        best: dict[tuple[PortId, ...], tuple[float, str]] = {}
        for key, loss in self.loss.items():
            if key[0] not in (PartKind.SWITCH, PartKind.UPLINK):
                continue
            name = self._ways.switch_names[key[2]]
            for ports, pings in self._ways.perhaps_behind(key):
                odds = self._odds_of_being_behind(pings, loss)
                known = best.get(tuple(ports), (_CLOSE, ""))
                if odds > known[0]:
                    best[tuple(ports)] = (odds, name)
        return {port: name for ports, (_, name) in best.items() for port in ports}

    def joined_cost(self, joined: Mapping[PortId, str]) -> float:
        """That a host's ports are on one of so many switches is guessed once per host and switch."""
        guesses = {(port.host, name) for port, name in joined.items()}
        return len(guesses) * math.log(1 + self._ways.counts[PartKind.SWITCH])

    def _odds_of_being_behind(self, pings: Iterable[tuple[int, int]], loss: float) -> float:
        """Log odds that pings meet this loss rather than none, each with the number of its end in question.

        What parts at fault beyond that end lose of them is reckoned with; those of the end itself stand in.
        """
        ways, on, alive = self._ways, self._blamed_on, 1.0 - self._background
        odds = 0.0
        for ping, end in pings:
            beyond = alive
            for key in on.get(ping, ()):
                if key not in ways.of_end(end):
                    beyond *= 1.0 - self.loss[key]
            sent, lost = ways.sent[ping], ways.lost[ping]
            odds += _log_likelihood(beyond * (1.0 - loss), sent, lost) - _log_likelihood(beyond, sent, lost)
        return odds

    # --- likelihood -------------------------------------------------------------------------------

    def _best_alone(self, sent: int, lost: int) -> tuple[float, float]:
        known = self._known_alone.get((sent, lost))
        if known is None:
            known = best_loss({1.0: (sent, lost)}, self._background)
            self._known_alone[sent, lost] = known
        return known

    def _gain(self, key: Key, least: float = 0.0) -> tuple[float, float]:
        """What the log likelihood gains by this part at its most likely loss, and that loss.

        Both may be 0 where the gain is no more than ``least``.
        """
        self.evaluated += 1
        if not self.loss:
            return self._best_alone(*self._sums[key])
        if key[0] in _WIDE:
            return best_loss(self._groups_of(key), self._background, least)
        if key[0] in _OF_HOST:
            ends = self._ways.ends(key)
            if self._touched.isdisjoint(ends):
                return best_loss(self._groups_of_untouched(ends), self._background, least)
        sent, lost = self._ways.sent, self._ways.lost
        get = self._survival.get
        groups: dict[float, list[int]] = {}
        rest_sent, rest_lost = self._sums[key]
        pings = self._pings(key)
        self.looks += len(pings)
        for ping in pings:
            survival = get(ping)
            if survival is not None:
                group = groups.setdefault(round(survival, 6), [0, 0])
                group[0] += sent[ping]
                group[1] += lost[ping]
                rest_sent -= sent[ping]
                rest_lost -= lost[ping]
        if not groups:
            return self._best_alone(rest_sent, rest_lost)
        rest = groups.setdefault(1.0, [0, 0])
        rest[0] += rest_sent
        rest[1] += rest_lost
        return best_loss(groups, self._background, least)

    def _groups_of_untouched(self, ends: Iterable[int]) -> dict[float, list[int]]:
        """`best_loss` groups of ends whose pings only wide parts at fault lie on: sums are all to look at."""
        survival, sums_of = self._wide_survival, self._ways.class_sums_of_end
        groups: dict[float, list[int]] = {}
        for end in ends:
            for number, sent, lost in sums_of[end]:
                group = groups.setdefault(round(survival[number], 6), [0, 0])
                group[0] += sent
                group[1] += lost
        return groups

    def _groups_of(self, key: Key) -> dict[float, list[int]]:
        """Survival of the pings through a wide part -> packets sent and lost."""
        merged: dict[float, list[int]] = {}
        for number in self._ways.classes_through(key):
            for survival, (sent, lost) in self._groups[number].items():
                group = merged.setdefault(survival, [0, 0])
                group[0] += sent
                group[1] += lost
        return merged

    def residual_loss(self) -> float:
        """The share of packets lost on ways that no part at fault lies on."""
        on, ways = self._blamed_on, self._ways
        sent = sum(ways.sent) - sum(ways.sent[ping] for ping in on)
        lost = sum(ways.lost) - sum(ways.lost[ping] for ping in on)
        return (lost + 0.5) / (sent + 500)

    # --- what was found ---------------------------------------------------------------------------

    def blames(self) -> tuple[Blame, ...]:
        found = [self._blame(key) for key in list(self.loss)]
        return tuple(sorted(found, key=lambda blame: -blame.gain))

    def _blame(self, key: Key) -> Blame:
        loss = self._take(key)
        gain, _ = self._gain(key)
        own = gain - self.cost(key)
        close = []
        doubt = math.exp(-min(own, 700.0))
        for other in self._stand_ins(key):
            if self._alone[other] < own - 20.0:
                continue
            behind = own - (self._gain(other)[0] - self.cost(other))
            doubt += math.exp(-max(-20.0, min(behind, 700.0)))
            if behind < _CLOSE:
                close.append((self._ways.part(other), max(0.0, behind)))
        self._put(key, loss)
        ways, crossed = self._ways, self._pings(key)
        return Blame(
            part=ways.part(key),
            loss=loss,
            gain=gain,
            confidence=min(1.0 / (1.0 + doubt), _UNTRIED_CONFIDENCE if key in self._untried else 1.0),
            pings=len(crossed),
            sent=sum(ways.sent[ping] for ping in crossed),
            lost=sum(ways.lost[ping] for ping in crossed),
            observations=tuple(ways.observation[ping] for ping in self._lossy(key)),
            alternatives=tuple(sorted(close, key=lambda pair: pair[1])),
            ports=tuple(ways.ports_of(key)),
            tried=key not in self._untried,
        )

    def suspicions(self) -> tuple[Suspicion, ...]:
        """Parts that gain something beside the parts at fault, but less than they cost."""
        found = []
        for key, alone in self._alone.items():
            if (
                key in self.loss
                or key[0] is PartKind.LINK
                or alone + self.cost(key) < _SUSPECTED
                or not self._is_open(key)
            ):
                continue
            gain, loss = self._gain(key, _SUSPECTED)
            if gain >= _SUSPECTED and loss >= _LEAST_LOSS:
                found.append((self.cost(key) - gain, key))
        found.sort()
        return tuple(
            Suspicion(
                part=self._ways.part(key),
                ports=tuple(self._ways.ports_of(key)),
                short=short,
                observations=tuple(self._ways.observation[ping] for ping in self._lossy(key)),
            )
            for short, key in found[:_MAX_SUSPICIONS]
        )


def _spread(pings: Sequence[int]) -> Sequence[int]:
    """Enough of these pings, evenly spread."""
    return pings[:: 1 + len(pings) // _ENOUGH_PINGS]


# --- likelihood -----------------------------------------------------------------------------------


def best_loss(
    groups: Mapping[float, Sequence[int]], background: float, least: float = 0.0
) -> tuple[float, float]:
    """What the log likelihood gains by a part, and the loss at which it gains most.

    ``groups``: survival of a packet on the rest of its way → packets sent and lost there. Both are 0 where
    the gain is surely no more than ``least``.
    """
    ways = [
        ((1.0 - background) * survival, group[0], group[1]) for survival, group in groups.items() if group[0]
    ]
    if not any(lost for _, _, lost in ways):
        return 0.0, 0.0
    if len(ways) == 1:
        survival, sent, lost = ways[0]
        loss = min(max(1.0 - (sent - lost) / sent / max(survival, 1e-9), 0.0), _MOST_LOSS)
    elif least and _bound(ways) <= least:
        return 0.0, 0.0
    else:
        loss = _most_likely(ways)
    return _likelihood(ways, loss) - _likelihood(ways, 0.0), loss


def _bound(ways: Iterable[tuple[float, int, int]]) -> float:
    """What the log likelihood would gain if the part lost at a rate of its own on each of these."""
    bound = 0.0
    for survival, sent, lost in ways:
        arrived = (sent - lost) / sent
        if arrived < survival:
            bound += _log_likelihood(arrived, sent, lost) - _log_likelihood(survival, sent, lost)
    return bound


def _most_likely(ways: Sequence[tuple[float, int, int]]) -> float:
    """The loss at which the likelihood stops rising: it has one maximum, so its slope is halved in on."""
    arrived = sum(sent - lost for _, sent, lost in ways)

    def slope(alive: float) -> float:
        # Derivative by log(alive): packets that arrived, less what the lost ones take back.
        total = float(arrived)
        for survival, _, lost in ways:
            if lost:
                arrives = survival * alive
                total -= lost * arrives / max(1.0 - arrives, 1e-12)
        return total

    if slope(1.0) >= 0:
        return 0.0
    low, high = 1.0 - _MOST_LOSS, 1.0
    if slope(low) <= 0:
        return _MOST_LOSS
    for _ in range(24):
        middle = (low + high) / 2
        if slope(middle) > 0:
            low = middle
        else:
            high = middle
    return 1.0 - (low + high) / 2


def _likelihood(ways: Iterable[tuple[float, int, int]], loss: float) -> float:
    return sum(_log_likelihood(survival * (1.0 - loss), sent, lost) for survival, sent, lost in ways)


def _log_likelihood(arrives: float, sent: int, lost: int) -> float:
    arrives = min(max(arrives, 1e-6), 1.0 - 1e-9)
    return (sent - lost) * math.log(arrives) + lost * math.log(1.0 - arrives)
