"""Checks of the RoCE port of each device, and of its TLS switch."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from ascendctl.checks.ascend import DeviceCheck, RocePortCheck
from ascendctl.checks.rails import needs_a_way_out
from ascendctl.facts import (
    AddressFacts,
    ClusterFacts,
    DeviceFacts,
    Generation,
    HostFacts,
    LinkStatus,
    Reading,
    ReadingStatus,
)
from ascendctl.facts import NetHealth as HealthWord
from ascendctl.results import CellKey, Result, Status, Subject
from ascendctl.topology.addresses import (
    IPV4_BITS,
    is_network_or_broadcast,
    port_segment,
    prefix_length,
    reserved_range,
    segment,
    unicast,
)
from ascendctl.topology.majority import vote
from ascendctl.topology.roce import Wanted, roce_use
from ascendctl.topology.server import module_of, same_npu
from ascendctl.topology.super_pod import in_super_pod


class Link(RocePortCheck):
    """The RoCE port has a link.

    What:
        `hccn_tool -link -g` says UP, on every port where RoCE is expected: `scale_out: roce`, any A2
        port, or an A3 port where a port of the server has an address, live or in /etc/hccn.conf. An A3
        server that uses HCCS alone has no cable there, and is not judged by it.
    Why:
        Without a link nothing else about the port can be right; its other checks are then skipped.
    Consequence:
        HCCL cannot connect the ranks of this device to other hosts: EI0006 at start, EI0013 if the link
        goes down while a job runs.
    Remedy:
        Check cable and optical module (`hccn_tool -i N -optical -g`), the switch port behind it, its
        speed and FEC settings; then `hccn_tool -i N -link_stat -g` for how often it went down.
    """

    id = "link"
    title = "RoCE port is UP"
    commands = ("link",)
    after = ("npu-mapping", "optical")

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.link

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        link = device.link.value
        if link is None:
            return self.unlearned(
                subject, "the link state", device.link, must_be_offered=_roce_port(device, host)
            )
        if link.link_status is LinkStatus.UP:
            return self.passed(subject, "link is UP")
        return self.found(
            Status.FAIL,
            subject,
            "link is DOWN",
            advice_for="link/down",
            expected="UP",
            actual="DOWN",
            reading=device.link,
        )


class Address(RocePortCheck):
    """The RoCE address of each port is there and fits the plan.

    What:
        Where RoCE is expected, the port has an IPv4 unicast address with a contiguous netmask; it is no
        network or broadcast address, outside the ranges that the driver keeps for virtual NICs, and used once
        on the host. Link-local addresses (169.254.x.x) are none; a netmask of 255.255.255.255 without a
        gateway leads nowhere. All ports of a host have the same netmask. A2: all ports of a server (of a
        module of 8) lie in one segment. A3: the two dies of one NPU should lie in different segments, which
        is a warning until pings to and from both of them come back (`mesh-roce`). The odd one out is judged
        against the host's majority; a tie accuses both sides.
    Why:
        The vendor's address plan differs between A2 and A3, and a wrong address works for one job and
        breaks for the next.
    Consequence:
        HCCL connects to the wrong place or to nothing (EI0006); a rank table that names another address
        is refused (EI0014); mixed address families end with EI0001.
    Remedy:
        Set it with `hccn_tool -i N -ip -s address A netmask M`, and keep /etc/hccn.conf equal.
    """

    id = "address"
    title = "RoCE address of each port"
    commands = ("ip",)
    after = ("npu-mapping",)

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.ip

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if device.ip.status is ReadingStatus.NO_DATA:
            return self._wrong(device, subject, "no address is set", "missing", "an address", "none")
        if device.ip.value is None:
            return self.unlearned(
                subject, "the address of the port", device.ip, must_be_offered=_roce_port(device, host)
            )
        facts = device.ip.value
        return (
            self._judge_alone(device, subject, host, facts)
            or self._judge_netmask(device, subject, host, facts)
            or self._judge_a2_segment(device, subject, host)
            or self._judge_a3_dies(device, subject, host)
            or self.passed(subject, "address is set and fits the plan")
        )

    def _judge_alone(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, facts: AddressFacts
    ) -> Result | None:
        """What can be said of the address without looking at the others, except being used once."""
        ip, network = unicast(facts.address), segment(facts.address, facts.netmask)
        shown = f"{facts.address} netmask {facts.netmask}"
        if ip is None:
            want = "an IPv4 unicast address, not link-local"
            message = "the address is no unicast address that other hosts can reach"
            return self._wrong(device, subject, message, "invalid", want, shown)
        if network is None or prefix_length(facts.netmask) is None:
            want = "a contiguous netmask"
            return self._wrong(device, subject, "the netmask is not contiguous", "netmask", want, shown)
        if is_network_or_broadcast(ip, network):
            want = f"a host address in {network}"
            message = "the address is the network or broadcast address of its segment"
            return self._wrong(device, subject, message, "invalid", want, shown)
        if network.prefixlen == IPV4_BITS and device.gateway.status is ReadingStatus.NO_DATA:
            message = "nothing else is in the port's segment, and no gateway leads out of it"
            want = "a netmask that covers the segment"
            return self._wrong(device, subject, message, "netmask", want, shown)
        kept = reserved_range(ip, host.generation, in_super_pod(host))
        if kept:
            message = "the address lies in a range reserved for virtual NICs"
            return self._wrong(device, subject, message, "reserved", f"outside {kept}", shown)
        sharing = [
            other.phy_id
            for other in host.devices
            if other.phy_id != device.phy_id and other.ip.value and other.ip.value.address == facts.address
        ]
        if sharing:
            also = ", ".join(f"device {number}" for number in sharing)
            message = "the address is set on several devices of the host"
            want = "an address of its own"
            return self._wrong(device, subject, message, "duplicate", want, f"{shown}, also on {also}")
        return None

    def _judge_netmask(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, facts: AddressFacts
    ) -> Result | None:
        masks = {other.phy_id: other.ip.value.netmask for other in host.devices if other.ip.value}
        result = vote(masks)
        if device.phy_id not in result.accused:
            return None
        if result.tie:
            message = "the netmasks of this host's ports disagree, with no majority to judge by"
            want = "one netmask on every port"
        else:
            message = "the netmask differs from that of the host's other ports"
            want = str(result.value)
        return self._wrong(device, subject, message, "netmask", want, facts.netmask)

    def _judge_a2_segment(self, device: DeviceFacts, subject: Subject, host: HostFacts) -> Result | None:
        if host.generation is not Generation.A2:
            return None
        masks = {other.phy_id: other.ip.value.netmask for other in host.devices if other.ip.value}
        odd_masks = vote(masks).accused
        segments: dict[int, IPv4Network] = {}
        for other in host.devices:
            network = port_segment(other.ip.value)
            near = module_of(other.phy_id) == module_of(device.phy_id)
            if network is not None and near and other.phy_id not in odd_masks:
                segments[other.phy_id] = network
        result = vote(segments)
        if device.phy_id not in result.accused:
            return None
        if result.tie:
            message = "the ports of this host lie in different segments, with no majority to judge by"
            want = "one segment for every port of the server"
        else:
            message = "the port lies in another segment than the host's other ports"
            want = str(result.value)
        return self._wrong(device, subject, message, "a2-segment", want, str(segments[device.phy_id]))

    def _judge_a3_dies(self, device: DeviceFacts, subject: Subject, host: HostFacts) -> Result | None:
        if host.generation is not Generation.A3:
            return None
        own = port_segment(device.ip.value)
        for other in host.devices:
            sibling = other.phy_id != device.phy_id and same_npu(other, device)
            if sibling and own is not None and port_segment(other.ip.value) == own:
                return self.found(
                    Status.WARN,
                    subject,
                    "both dies of the NPU lie in one segment",
                    advice_for="address/a3-dies",
                    expected="different segments for the two dies of an NPU",
                    actual=f"both in {own}",
                    reading=device.ip,
                )
        return None

    def _wrong(
        self, device: DeviceFacts, subject: Subject, message: str, kind: str, expected: str, actual: str
    ) -> Result:
        return self.found(
            Status.FAIL,
            subject,
            message,
            advice_for=f"address/{kind}",
            expected=expected,
            actual=actual,
            reading=device.ip,
        )


class Gateway(RocePortCheck):
    """The gateway of each port lies in the port's segment, and is there where one is needed.

    What:
        A gateway that is set is an address of the port's own segment, other than its own and than the
        segment's network and broadcast address. None set is a warning only if a port of another host lies
        in another segment, and not by mistake: a port out of place by the other ports of its host
        (`address`) or of its rail (`segments`) is at fault itself.
    Why:
        Ranks in other segments are reached through it; a gateway outside the segment is never used.
    Consequence:
        Ranks of other segments cannot connect: EI0006.
    Remedy:
        Set it with `hccn_tool -i N -gateway -s gateway G`, and keep /etc/hccn.conf equal.
    """

    id = "gateway"
    title = "Gateway of each port"
    commands = ("gateway",)
    after = ("npu-mapping", "address")

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.gateway

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if not device.gateway.ok and device.gateway.status is not ReadingStatus.NO_DATA:
            return self.unlearned(subject, "the gateway of the port", device.gateway)
        network = port_segment(device.ip.value)
        if network is None:
            message = "the gateway cannot be judged without the port's address"
            return self.depends(subject, message, CellKey("address", subject))
        if device.gateway.value is None:
            return self._none_set(device, subject, network, host, cluster)
        seen = device.gateway.value.address
        gateway = unicast(seen)
        own = device.ip.value.address if device.ip.value else ""
        if gateway is None or gateway not in network or seen == own:
            problem = "is the port's own address" if seen == own else "lies outside the port's segment"
            return self.found(
                Status.FAIL,
                subject,
                f"the gateway {problem}",
                advice_for="gateway/outside",
                expected=f"another address in {network}",
                actual=seen,
                reading=device.gateway,
            )
        if is_network_or_broadcast(gateway, network):
            return self.found(
                Status.FAIL,
                subject,
                "the gateway is the network or broadcast address of the port's segment",
                advice_for="gateway/network",
                expected=f"a host address in {network}",
                actual=seen,
                reading=device.gateway,
            )
        return self.passed(subject, "gateway lies in the port's segment")

    def _none_set(
        self,
        device: DeviceFacts,
        subject: Subject,
        network: IPv4Network,
        host: HostFacts,
        cluster: ClusterFacts,
    ) -> Result:
        if not needs_a_way_out(network, host.host, cluster):
            return self.passed(subject, "no gateway is set, none is needed")
        return self.found(
            Status.WARN,
            subject,
            "no gateway is set, and ports of other hosts lie in other segments",
            advice_for="gateway/missing",
            expected=f"a gateway in {network}",
            actual="none",
            reading=device.gateway,
        )


class Netdetect(RocePortCheck):
    """The address that the device pings to judge its own network health.

    What:
        A detect address is set, and is a unicast address outside the ranges of the virtual NICs, other
        than the port's own.
    Why:
        Without it net_health stays at Init: the network was never measured. An address in a virtual
        NIC's range can never answer; the port's own always does, and proves nothing.
    Consequence:
        A broken network shows only when a job fails (EI0006).
    Remedy:
        Set it to the gateway or another address that always answers: `hccn_tool -i N -netdetect -s
        address A`, and keep /etc/hccn.conf equal.
    """

    id = "netdetect"
    title = "Detect address of each port"
    commands = ("netdetect",)
    after = ("npu-mapping",)

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.netdetect

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if device.netdetect.status is ReadingStatus.NO_DATA:
            return self._found(Status.WARN, device, subject, "no detect address is set", "missing", "none")
        if device.netdetect.value is None:
            return self.unlearned(subject, "the detect address", device.netdetect)
        seen = device.netdetect.value.address
        ip = unicast(seen)
        if seen == "0.0.0.0":
            return self._found(Status.WARN, device, subject, "no detect address is set", "missing", seen)
        if ip is None:
            message = "the detect address is no unicast address that the port can reach"
            return self._found(Status.FAIL, device, subject, message, "invalid", seen)
        if reserved_range(ip, host.generation, in_super_pod(host)):
            message = "the detect address lies in a range reserved for virtual NICs"
            return self._found(Status.FAIL, device, subject, message, "invalid", seen)
        if device.ip.value is not None and ip == unicast(device.ip.value.address):
            message = "the detect address is the port's own address, so net_health measures nothing"
            return self._found(Status.FAIL, device, subject, message, "own", seen)
        return self.passed(subject, "detect address is set")

    def _found(
        self, status: Status, device: DeviceFacts, subject: Subject, message: str, kind: str, actual: str
    ) -> Result:
        return self.found(
            status,
            subject,
            message,
            advice_for=f"netdetect/{kind}",
            expected="a unicast address of another port or router, outside the ranges of virtual NICs",
            actual=actual,
            reading=device.netdetect,
        )


class NetHealth(RocePortCheck):
    """What the device itself says of its network: the result of pinging its detect address.

    What:
        `hccn_tool -net_health -g` says Success on every port where RoCE is expected. Init means that
        it was never measured and is a warning; Detect ip set is a passing state, unknown if it stays;
        Socket fail, Receive timeout, Unreachable, Time exceeded and Fault fail; Thread error and Unknown
        tell nothing.
    Why:
        It is the only check of the port's way through the network that runs all the time.
    Consequence:
        Ranks cannot connect (EI0006), or connections break while a job runs (EI0013).
    Remedy:
        See the finding: each value points at another part of the way. First make sure that the detect address
        answers at all, from another host.
    """

    id = "net-health"
    title = "Network health of each port"
    commands = ("net-health",)
    after = ("npu-mapping", "link", "address")
    void_after = ("link",)

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.net_health

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if device.net_health.value is None:
            return self.unlearned(
                subject, "the network health", device.net_health, must_be_offered=_roce_port(device, host)
            )
        word = device.net_health.value.net_health
        if word is HealthWord.SUCCESS:
            return self.passed(subject, "net_health is Success")
        status, meaning = _NET_HEALTH[word]
        return self.found(
            status,
            subject,
            f"net_health is {word.value}: {meaning}",
            advice_for=f"net-health/{word.value}",
            expected=HealthWord.SUCCESS.value,
            actual=word.value,
            reading=device.net_health,
        )


class Lldp(RocePortCheck):
    """The port hears its neighbour, the switch it is cabled to.

    What:
        `hccn_tool -lldp -g` names a neighbour on every port where RoCE is expected.
    Why:
        It proves the cable up to the switch, and tells which switch port it ends at. LLDP may be switched off
        on a healthy switch, so silence is a warning only.
    Consequence:
        None by itself; wrong cabling cannot be seen, and the leaf switch behind a fault cannot be
        named.
    Remedy:
        Switch LLDP on for the switch port (`lldp enable`), or compare the cabling by hand.
    """

    id = "lldp"
    title = "LLDP neighbour of each port"
    commands = ("lldp",)
    after = ("npu-mapping", "link")
    void_after = ("link",)

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.lldp

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if not device.lldp.ok and device.lldp.status is not ReadingStatus.NO_DATA:
            return self.unlearned(subject, "the LLDP neighbour", device.lldp)
        heard = device.lldp.value
        if heard and (heard.chassis_id or heard.port_id or heard.system_name):
            return self.passed(subject, "a neighbour is heard")
        return self.found(
            Status.WARN,
            subject,
            "no LLDP neighbour is heard",
            advice_for="lldp/none",
            expected="a neighbour",
            actual="none",
            reading=device.lldp,
        )


class Tls(DeviceCheck):
    """The TLS switch of each device can be read.

    What:
        `hccn_tool -tls -g` tells whether HCCL's connections of this device use TLS. Its value is shown;
        that all peers have the same one is judged between hosts.
    Why:
        All peers must agree on it, and a host whose switch cannot be read cannot be compared.
    Consequence:
        If the switches differ, HCCL refuses to start (EI0016), on older drivers with a bare time-out
        (EI0006).
    Remedy:
        The command needs root: log in as root or set `privilege: sudo` in the inventory. To change the
        switch: `hccn_tool -i N -tls -s enable 0` or `1`, equally on every device of the cluster.
    """

    id = "tls"
    title = "TLS switch of each device"
    commands = ("tls",)
    after = ("npu-mapping",)

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if device.tls.value is None:
            return self.unlearned(subject, "the TLS switch", device.tls)
        switch = device.tls.value.tls_switch
        return self.passed(subject, f"TLS switch is {switch} ({'on' if switch else 'off'})")


def _roce_port(device: DeviceFacts, host: HostFacts) -> bool:
    """Whether the port surely carries RoCE: hccn_tool then has the commands that say how it is."""
    return roce_use(device, host).wanted is Wanted.YES


_NET_HEALTH = {
    HealthWord.INIT: (Status.WARN, "never measured, as no detect address is set or detection has not begun"),
    HealthWord.DETECT_IP_SET: (Status.UNKNOWN, "the detect address was just set and there is no result yet"),
    HealthWord.SOCKET_FAIL: (Status.FAIL, "the device cannot open a socket on the port"),
    HealthWord.RECEIVE_TIMEOUT: (Status.FAIL, "the detect address does not reply"),
    HealthWord.UNREACHABLE: (Status.FAIL, "the network says that the detect address cannot be reached"),
    HealthWord.TIME_EXCEEDED: (Status.FAIL, "the packets run in a circle or over too many routers"),
    HealthWord.FAULT: (Status.FAIL, "the port or its driver is at fault"),
    HealthWord.THREAD_ERROR: (Status.UNKNOWN, "the measuring itself failed on the device"),
    HealthWord.UNKNOWN: (Status.UNKNOWN, "the device does not know"),
}
