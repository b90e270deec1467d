"""Consequence and remedy of every kind of finding. Keys are ``check id/kind``.

``reading/…``, ``reach/…`` and ``internal/…`` hold for every check: how a reading, a connection or
ascendctl itself failed. ``N`` stands for the physical id of the finding's device.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """What a finding leads to and what to do. ``meaning`` says what was seen, where only we know it."""

    consequence: str
    remedy: str
    meaning: str = ""


_NOT_KNOWN = "This part of the host is not known, so the host cannot be called fit."
_NOTHING_KNOWN = "Nothing is known of this host, so it cannot be called fit."
_NO_CONNECTION = "Ranks of this device cannot connect to other hosts: HCCL ends with EI0006."
_BOARD_FAULT = "If it comes back after a power cycle, have the card or board replaced."
_SAME_SUPER_POD = "HCCL refuses the ids (EI0014) or waits for a vNIC that is not there (EI0006)."
_SET_ADDRESS = "Set it with `hccn_tool -i N -ip -s address A netmask M` and keep /etc/hccn.conf equal."
_PRIVILEGE = (
    "Log in as root, set `privilege: sudo` in the inventory (with sudo rights that ask for no password), "
    "or add the user to the group HwHiAiUser."
)

_READING = {
    "reading/no-data": Advice(_NOT_KNOWN, "Run the command by hand on the host and look at its answer."),
    "reading/unsupported": Advice("", ""),
    "reading/must-be-offered": Advice(
        _NOT_KNOWN,
        "Run the command by hand on the host itself, outside containers and virtual machines; see that "
        "driver, firmware and tools are of one release, and that `generation:` in the inventory is right.",
    ),
    "reading/busy": Advice(
        _NOT_KNOWN,
        "Something else keeps calling the tool: find it (`ps -ef | grep hccn_tool`), then try again.",
    ),
    "reading/denied": Advice(_NOT_KNOWN, _PRIVILEGE),
    "reading/failed": Advice(
        _NOT_KNOWN, "Run the command by hand on the host; what it printed here is shown with this finding."
    ),
    "reading/unparsed": Advice(
        _NOT_KNOWN,
        "Look at the evidence. If the answer is complete, its form is new: report it with "
        "`ascendctl verify --record DIR`.",
    ),
    "reading/timed-out": Advice(
        "A device or driver that does not answer also hangs the jobs that use it.",
        "Run the command by hand, look at `dmesg` and at processes in state D; restart the host if it hangs "
        "again.",
    ),
    "reading/not-called": Advice(_NOT_KNOWN, "Solve the command that hung, then run the checks again."),
    "reading/tool-missing": Advice(_NOT_KNOWN, "Install the Ascend driver package, or mount its tools."),
    "reading/not-received": Advice(_NOT_KNOWN, "Run the checks again for this host."),
    "reading/not-asked": Advice(_NOT_KNOWN, "Run the checks again with the present version's script."),
    "internal/error": Advice(
        "This cell was not judged; all others are unaffected.",
        "This is a fault of ascendctl: report it with the output of `ascendctl verify --record DIR`.",
    ),
    "roce/cannot-tell": Advice(
        _NOT_KNOWN, "Say `scale_out: roce` or `scale_out: none` for the host in the inventory."
    ),
}

_REACH = {
    "reach/refused": Advice(
        _NOTHING_KNOWN,
        "Check address and port in the inventory, and that sshd runs on the host and no firewall refuses it.",
        "the connection was refused",
    ),
    "reach/timeout": Advice(
        _NOTHING_KNOWN,
        "Check that the host is switched on and its address is right (`ping`), and that no firewall drops "
        "packets; an overloaded host may need longer deadlines (`--connect-timeout`, `--host-timeout`).",
        "the host did not answer in time",
    ),
    "reach/unreachable": Advice(
        _NOTHING_KNOWN,
        "Check routing from this machine to the host, and the address in the inventory.",
        "there is no route to the host",
    ),
    "reach/name-resolution": Advice(
        _NOTHING_KNOWN,
        "Correct the name, or give the host's `address:` in the inventory.",
        "the host's name could not be resolved",
    ),
    "reach/authentication": Advice(
        _NOTHING_KNOWN,
        "Check user and identity in the inventory; try the same with `ssh -v`. Install the key with "
        "`ssh-copy-id`.",
        "the login was refused",
    ),
    "reach/host-key-unknown": Advice(
        _NOTHING_KNOWN,
        "Add the key to known_hosts after comparing its fingerprint (`ssh-keyscan`), or allow new keys with "
        "the host key policy accept-new.",
        "the host's key is not in known_hosts",
    ),
    "reach/host-key-mismatch": Advice(
        _NOTHING_KNOWN,
        "If the host was installed anew, remove its old key (`ssh-keygen -R HOST`) after comparing the new "
        "fingerprint. If it was not, something else may be answering in its place: do not log in.",
        "the host's key is not the one in known_hosts",
    ),
    "reach/jump-host": Advice(
        "Nothing is known of the hosts behind it, so they cannot be called fit.",
        "Check the jump host first: log in to it with `ssh`, and from there to the host.",
        "the jump host could not be passed",
    ),
    "reach/protocol": Advice(
        _NOTHING_KNOWN,
        "See what answers on this port (`nc HOST PORT`); the account needs a POSIX shell without a menu. "
        "For bastions with menus carry the script by hand: `ascendctl probe script`.",
        "what answered is no SSH server, or its shell is none",
    ),
    "reach/lost": Advice(
        "What had arrived is judged, the rest of this host is not known.",
        "See whether the host restarted or sshd was ended (`last -x`, its system log), then run again.",
        "the connection was lost before the last answer",
    ),
    "reach/cannot-probe": Advice(
        _NOTHING_KNOWN,
        "Mend what is named (free space in /tmp or set TMPDIR; install coreutils), then run again.",
        "the host was reached but cannot run the probe",
    ),
    "reach/bad-output": Advice(
        _NOTHING_KNOWN,
        "Run `sh probe.sh > NAME.txt` on that host again and carry the whole file here, one output per file.",
        "the file is no whole output of the probe script",
    ),
    "reach/not-attempted": Advice(
        _NOTHING_KNOWN,
        "Run again for this host. After refused logins the rest of a group is not tried, so that no account "
        "is locked: correct the login first.",
        "the host was not tried",
    ),
    "reach/interrupted": Advice(
        "What had arrived is judged, the rest of this host is not known.",
        "Run again for this host.",
        "the run was interrupted before the host had answered",
    ),
    "reach/reached": Advice("", "", "the host answered"),
}

_TOOLS = {
    "tools/none": Advice(
        "Nothing can be learned of NPUs, links and addresses; no job can run on NPUs here.",
        "Install the Ascend driver package, or mount its tools into the container. If this host has no NPU, "
        "set `accelerator: cpu` for it in the inventory.",
    ),
    "tools/one-missing": Advice(
        "What this tool reads cannot be learned.",
        "Install the whole Ascend driver package; in a container mount /usr/local/Ascend/driver and "
        "/usr/local/bin/npu-smi.",
    ),
    "tools/libraries": Advice(
        "The tool does not start, so nothing can be learned from it; engines fail to load the same "
        "libraries.",
        "Source /usr/local/Ascend/driver/bin/setenv.bash, or add /usr/local/Ascend/driver/lib64 with its "
        "folders common and driver to LD_LIBRARY_PATH; in a container mount /usr/local/Ascend/driver.",
    ),
    "tools/denied": Advice(_NOT_KNOWN, _PRIVILEGE, "every answer was a refusal"),
    "tools/-8005": Advice(
        _NOT_KNOWN,
        f"{_PRIVILEGE} As root: see that the driver is loaded (`lsmod | grep drv_`), and restart the host if "
        "the driver was just upgraded.",
        "the driver turned it away (-8005): no permission, driver not loaded, or no restart since an upgrade",
    ),
    "tools/-8020": Advice(
        _NOT_KNOWN,
        "Find the container that was started with exclusive devices and end it, or run the checks inside it.",
        "the driver turned it away (-8020): a container holds the NPUs for itself",
    ),
    "versions/not-understood": Advice(
        _NOT_KNOWN,
        "Look at /usr/local/Ascend/driver/version.info and the first line of `npu-smi info`; reinstall the "
        "driver if neither names a release.",
    ),
    "versions/old-driver": Advice(
        "The serving stack may fail at start or in its dispatch and combine operators.",
        "Upgrade driver and firmware with one HDK package (25.0 or newer for large expert parallelism), then "
        "restart the host.",
    ),
}

_NPUS = {
    "npu-mapping/none": Advice(
        "No job can run here.",
        "See that the cards are seated (`lspci | grep d80`) and the driver is loaded (`lsmod | grep drv_`); "
        "in a container pass the devices in (/dev/davinci*).",
    ),
    "npu-mapping/ambiguous": Advice(
        "Findings and ranks may be put on the wrong device.",
        "Restart the host; if the mapping stays like this, reinstall the driver.",
    ),
    "npu-mapping/not-the-inventory": Advice(
        "The host is judged by what it is. Plans made from the inventory do not fit it: rank tables are "
        "refused (EI0014) and ranks are missing (EI0015).",
        "Correct `generation:` or `accelerator:` of the host in the inventory, or see whether its address "
        "there leads to another server.",
    ),
    "npu-mapping/tables-differ": Advice(
        "Findings and ranks may be put on the wrong device.",
        "Compare `npu-smi info -m` with `npu-smi info` on the host; restart it, and if the two still differ "
        "reinstall the driver.",
    ),
    "npu-mapping/generation": Advice(
        "Which links, addresses and counts are right on this host is not known, so it cannot be called fit.",
        "Set `generation:` for the host in the inventory: a2 for 910B, a3 for 910C.",
    ),
    "npu-mapping/unconfirmed": Advice(
        "Port checks of these devices may be about other devices, or about none.",
        "Compare `npu-smi info -m` with `hccn_tool -i N -link -g` on the host; in containers the ids of the "
        "two tools may differ.",
    ),
    "npu-count/other": Advice(
        "Ranks are missing: negotiation times out (EI0015), or the rank table does not fit (EI0014).",
        "Look for the card with `lspci | grep d80` and in `dmesg`, power-cycle the server; or correct "
        "`npus:` in "
        "the inventory.",
    ),
    "npu-count/part-of-a-server": Advice(
        "Ranks are missing: negotiation times out (EI0015), or the rank table does not fit (EI0014).",
        "Look for the card with `lspci | grep d80` and in `dmesg`, power-cycle the server. For a "
        "container or a "
        "partly used host set `npus:` in the inventory.",
    ),
    "npu-count/ids": Advice(
        "A whole part of the server is missing: ranks are missing or numbered otherwise than planned "
        "(EI0014, EI0015).",
        "Look for the other module with `lspci | grep d80` and in `dmesg`, power-cycle the server. For a "
        "container or a partly used host set `npus:` in the inventory.",
    ),
    "npu-count/tables-differ": Advice(
        "A device that is missing from one table cannot be used.",
        "Restart the host; if the tables still differ, the card is at fault.",
    ),
    "npu-health/not-in-table": Advice(
        "The device cannot be opened: EJ0001.", f"Power-cycle the server. {_BOARD_FAULT}"
    ),
    "npu-health/unknown": Advice(
        _NOT_KNOWN,
        "Run `npu-smi info -t health` by hand; in containers and for virtual NPUs it may have no answer.",
    ),
    "npu-health/warn": Advice(
        "The device works; the fault behind the warning may grow and end a job later.",
        "Look the error codes up in the vendor's health-management list, and plan the repair.",
    ),
    "npu-health/fail": Advice(
        "The device fails at start (EJ0001) or ends a running job (EI0002 on its peers).",
        "Look the error codes up in the vendor's health-management list; reset the device or restart the "
        "host. "
        f"{_BOARD_FAULT}",
    ),
    "hccs-links/no-row": Advice(
        "HCCL may not find a way to this device.", f"Power-cycle the server. {_BOARD_FAULT}"
    ),
    "hccs-links/row": Advice(
        "Collectives inside the host fail (EI0010, EI0012) or take a much slower way.",
        f"Power-cycle the server. {_BOARD_FAULT}",
    ),
    "hccs-links/count": Advice(
        "Collectives inside the host go over fewer links and are slowed down, or fail (EI0012).",
        f"Power-cycle the server and look again with `npu-smi info -t hccs`. {_BOARD_FAULT}",
    ),
    "hccs-links/lanes": Advice(
        "Every collective inside the host is slowed down; a link that fails altogether ends jobs (EI0012).",
        f"Power-cycle the server and look again with `npu-smi info -t hccs`. {_BOARD_FAULT}",
    ),
}

_PORTS = {
    "link/down": Advice(
        f"{_NO_CONNECTION} If it goes down while a job runs: EI0013.",
        "Check cable, optical module (`hccn_tool -i N -optical -g`) and the switch port behind it. If "
        "the host is "
        "not meant to use RoCE, set `scale_out: none` in the inventory.",
    ),
    "address/missing": Advice(_NO_CONNECTION, _SET_ADDRESS),
    "address/invalid": Advice(_NO_CONNECTION, _SET_ADDRESS),
    "address/netmask": Advice(
        "Some peers are looked for in the wrong segment and cannot be reached: EI0006.", _SET_ADDRESS
    ),
    "address/reserved": Advice(
        "Packets go to the virtual NICs instead of the network: EI0006.",
        f"Choose addresses outside the reserved range. {_SET_ADDRESS}",
    ),
    "address/duplicate": Advice(
        "The switch sends packets to either of the ports: connections fail or break at random (EI0006, "
        "EI0014).",
        f"Give every port an address of its own. {_SET_ADDRESS}",
    ),
    "address/a2-segment": Advice(
        "On A2 all ports of a server belong into one segment; ports of other servers cannot reach this one: "
        "EI0006.",
        _SET_ADDRESS,
    ),
    "address/a3-dies": Advice(
        "On A3 the dies of one NPU are expected in different segments; pings between ports may fail, and "
        "with them connections (EI0006).",
        "Plan two segments, one for the even and one for the odd devices; if pings to other hosts "
        "succeed from "
        "both dies, this may stay.",
    ),
    "gateway/network": Advice(
        "No router has this address; ranks in other segments cannot connect: EI0006.",
        "Set it with `hccn_tool -i N -gateway -s gateway G` to the router's address in the port's segment.",
    ),
    "gateway/outside": Advice(
        "The gateway is never used; ranks in other segments cannot connect: EI0006.",
        "Set it with `hccn_tool -i N -gateway -s gateway G` to an address of the port's segment.",
    ),
    "gateway/missing": Advice(
        "Ranks in other segments cannot connect: EI0006.",
        "Set it with `hccn_tool -i N -gateway -s gateway G`, unless those ports never talk to each other.",
    ),
    "netdetect/missing": Advice(
        "net_health is never measured: a broken network shows only when a job fails (EI0006).",
        "Set it to the gateway or another address that always answers: `hccn_tool -i N -netdetect -s "
        "address A`.",
    ),
    "netdetect/own": Advice(
        "The device pings itself: net_health says Success whatever the network is like, and a broken one "
        "shows only when a job fails (EI0006).",
        "Set it to the gateway or another address that always answers: `hccn_tool -i N -netdetect -s "
        "address A`.",
    ),
    "netdetect/invalid": Advice(
        "The address can never answer, so net_health reports a fault that is none.",
        "Set it to the gateway or another address that always answers: `hccn_tool -i N -netdetect -s "
        "address A`.",
    ),
    "lldp/none": Advice(
        "Cabling cannot be checked, and a faulty switch cannot be named.",
        "Switch LLDP on at the switch port; if it is on, check the cable.",
    ),
    "net-health/Init": Advice(
        "A broken network shows only when a job fails (EI0006).",
        "Set a detect address: `hccn_tool -i N -netdetect -s address A`, then ask again.",
    ),
    "net-health/Detect ip set": Advice(_NOT_KNOWN, "Run the checks again in a minute."),
    "net-health/Socket fail": Advice(
        _NO_CONNECTION,
        "Check that the port has an address and a link; set the address anew, or reset the NPU.",
    ),
    "net-health/Receive timeout": Advice(
        _NO_CONNECTION,
        "Ping the detect address from another host. If it answers there, check VLAN, cabling and switch port "
        "of this port; if not, choose an address that answers, outside the ranges of virtual NICs.",
    ),
    "net-health/Unreachable": Advice(
        _NO_CONNECTION,
        "Check address, netmask, gateway and routes of the port, and the VLAN of the switch port.",
    ),
    "net-health/Time exceeded": Advice(
        _NO_CONNECTION, "Look for a routing loop between the port's gateway and the detect address."
    ),
    "net-health/Fault": Advice(
        _NO_CONNECTION,
        "Check link, cable and optical module of the port and the device's health; reset the NPU if they are "
        "good.",
    ),
    "net-health/Thread error": Advice(_NOT_KNOWN, "Set the detect address anew; if it stays, reset the NPU."),
    "net-health/Unknown": Advice(_NOT_KNOWN, "Set the detect address anew; if it stays, reset the NPU."),
}

_LOSSY_PORT = "Packets are lost and sent again, and jobs may end with a completion error (EI0013)."
_CLEAN_FIBRE = (
    "Clean and reseat fibre and module, compare with the switch port behind it, and replace the module if it "
    "stays."
)
_DIFF = "Compare two runs under load with `ascendctl diff`"

_PORTS_DEEP = {
    "optical/absent": Advice(
        f"{_NO_CONNECTION} A module that is loose loses its link while a job runs: EI0013.",
        "Reseat the module, then replace it; `hccn_tool -i N -optical -g` shows what the port sees of it.",
    ),
    "optical/rx-power": Advice(
        f"{_LOSSY_PORT} Too little light takes the link down.",
        "Little light mostly comes from a dirty or bent fibre or a weak module at the other end. "
        f"{_CLEAN_FIBRE}",
    ),
    "optical/tx-power": Advice(f"{_LOSSY_PORT} The other end may lose its link.", _CLEAN_FIBRE),
    "optical/temperature": Advice(
        f"{_LOSSY_PORT} A module that is too hot switches itself off: the link goes down.",
        "Check fans, air flow and room temperature; replace the module if its neighbours are cooler.",
    ),
    "optical/voltage": Advice(
        f"{_LOSSY_PORT} The module may switch itself off.",
        "Reseat the module; if another one shows the same in this port, have the board looked at.",
    ),
    "optical/snr": Advice(_LOSSY_PORT, _CLEAN_FIBRE),
    "optical/flags": Advice(
        f"{_LOSSY_PORT} A lane that loses its signal takes the link down.",
        "Modules keep these flags until they are read: look again (`hccn_tool -i N -optical -g`). If they "
        f"come back: {_CLEAN_FIBRE[0].lower()}{_CLEAN_FIBRE[1:]}",
    ),
    "link-flaps/many": Advice(
        "Each loss of the link ends the jobs that use the port: EI0013, or EI0006 while they start.",
        "Look at the times in `hccn_tool -i N -link_stat -g`; if they are recent, check fibre and module at "
        f"both ends. {_DIFF} to see whether the count grows.",
    ),
    "port-errors/errors": Advice(
        _LOSSY_PORT, f"{_DIFF}: if the counts grow, check fibre, module and switch port."
    ),
    "port-errors/retries": Advice(
        "Collectives wait for seconds; when the retries are used up a job ends (EI0013).",
        f"{_DIFF}: if the counts grow, check PFC, ECN and buffers of the switches, and other ports.",
    ),
    "speed/half-duplex": Advice(
        f"Sending and receiving take turns: the job is slowed down. {_LOSSY_PORT}",
        "Set the switch port to full duplex, or both ends to negotiate it, then take the port down and up.",
    ),
    "speed/differs": Advice(
        "Every collective waits for the slowest port; jobs may end in time-outs (EI0002, EI0013).",
        "Check module, fibre and the switch port (speed, auto-negotiation, breakout), then take the port "
        "down and up.",
    ),
    "speed/unknown": Advice(_NOT_KNOWN, "Run the command by hand on the host; check the link of the port."),
    "mtu/differs": Advice(
        "Large packets between this port and others are dropped: a running job ends with EI0013.",
        "Set it with `hccn_tool -i N -mtu -s size B`, equally on every port, and not above that of the "
        "switches.",
    ),
    "fec/differs": Advice(
        f"{_LOSSY_PORT} The link is lost when the other end changes its mode (EI0006, EI0013).",
        "Set the same mode on every port with hccn_tool's option -fec, and on the switch ports behind them.",
    ),
}

_DEVICES_DEEP = {
    "ecc/double-bit": Advice(
        "A job that touches the faulty memory ends in the middle (EI0002 on its peers), or computes wrongly.",
        "Restart the server, so that the page is taken out of use, and run `ascend-dmi -dg -i hbm`. If "
        "errors come back, have the card replaced.",
    ),
    "ecc/isolated": Advice(
        "None by itself, as the pages were taken out of use; a device that lost data tends to do so again.",
        "Keep an eye on it (`ascendctl diff`); run `ascend-dmi -dg -i hbm` when the host is free.",
    ),
    "ecc/single-bit": Advice(
        "None by itself, as each was corrected; many may announce errors that cannot be.",
        "Keep an eye on it (`ascendctl diff`); run `ascend-dmi -dg -i hbm` when the host is free.",
    ),
    "hccs-errors/errors": Advice(
        "Collectives inside the host are slowed down; a link that gets worse ends jobs (EI0012).",
        f"Power-cycle the server and look again under load. {_BOARD_FAULT}",
    ),
    "hccs-errors/retries": Advice(
        "Collectives inside the host are slowed down while packets are sent again.",
        f"{_DIFF}: if the count grows, power-cycle the server. {_BOARD_FAULT}",
    ),
    "npu-processes/held": Advice(
        "A new job cannot open the device (EJ0001), finds its port taken (EI0019) or too little memory "
        "(EI0011).",
        "See what it is (`ps -fp PID` on the host) and end it, or wait for its job.",
    ),
    "hbm-use/held": Advice(
        "Engines find too little memory at start; HCCL cannot create its buffers (EI0007, EI0011).",
        "Look for containers that still use the device; if none does, reset the device or restart the host.",
    ),
}

_HOST_DEEP = {
    "open-files/low": Advice(
        "Ranks cannot connect while they gather: negotiation times out (EI0015); engines refuse requests.",
        "Raise it in /etc/security/limits.d (`* - nofile 65535`), for services with LimitNOFILE=, for "
        "containers with `--ulimit nofile=65535`.",
    ),
    "huge-pages/few": Advice(
        "What keeps its memory in huge pages, such as a pool of KV cache, gets too little and stops.",
        "Set vm.nr_hugepages with sysctl and keep it in /etc/sysctl.d; or correct huge-pages-min in the "
        "inventory.",
    ),
    "time-service/not-synchronized": Advice(
        "Logs of several hosts cannot be put in order, so that the first fault cannot be told.",
        "Set up chrony or systemd-timesyncd with servers that the host can reach.",
    ),
}

_CONF = {
    "hccn-conf/missing": Advice(
        "Port addresses are lost at the next restart. In a container without it vLLM gives garbage answers "
        "(vllm-ascend issue 7711), or the Mooncake connector fails.",
        "Set the ports again with hccn_tool, which writes the file; mount it into every container: `-v "
        "/etc/hccn.conf:/etc/hccn.conf`.",
    ),
    "hccn-conf/not-kept": Advice(
        "The port has no address after the next restart: EI0006. Engines that read the file do not find it.",
        "Set the address again with hccn_tool, which writes the file, or add the key to it.",
    ),
    "hccn-conf/differs": Advice(
        "The port changes at the next restart, and engines that read the file use the wrong address: EI0006, "
        "EI0014.",
        "Decide which of the two is right, set it with hccn_tool, and see that the file follows.",
    ),
}

_SCALE_UP = {
    "vnic/down": Advice(
        "HCCL between hosts of the super pod waits for the vNIC and times out: EI0006.",
        "Restart the host; if it stays, check driver, firmware and the super pod settings in the management "
        "controller.",
    ),
    "vnic/down-alone": Advice(
        "None while hosts talk over RoCE; the driver normally brings it up by itself.",
        "Restart the host when convenient; if it stays, check driver and firmware.",
    ),
    "vnic/a2-address": Advice(
        "None known by itself; the numbering of devices may be another than assumed.",
        "Compare with `npu-smi info -m` and restart the host when convenient.",
    ),
    "spod-info/one-die-invalid": Advice(
        "This die cannot reach other hosts over HCCS: EI0006 or EI0014.",
        f"Restart the host; check the super pod settings in the management controller. {_BOARD_FAULT}",
    ),
    "spod-info/no-network": Advice(
        "The devices of this host can reach no other host: EI0006.",
        "Set the super pod settings in the management controller, or give the ports RoCE addresses and set "
        "`scale_out: roce`.",
    ),
    "spod-info/no-super-pod": Advice(
        "HCCL between hosts uses RoCE; plans that count on HCCS between hosts fail (EI0006).",
        "Plan RoCE between hosts (`scale_out: roce`). If the server belongs to a super pod, set it up in the "
        "management controller.",
    ),
    "spod-info/sdid": Advice(
        _SAME_SUPER_POD,
        "Restart the host; after a board was replaced set super pod id and server index in the management "
        "controller (Redfish).",
    ),
    "spod-info/server-index": Advice(
        _SAME_SUPER_POD,
        "Set the server index in the management controller (Redfish) and restart the host; it goes wrong "
        "when a "
        "board is replaced.",
    ),
    "spod-info/super-pod-id": Advice(
        _SAME_SUPER_POD,
        "Set the super pod id in the management controller (Redfish) and restart the host.",
    ),
    "spod-info/size": Advice(
        "Software that asks how large the super pod is gets no answer it can use.",
        "Check the super pod settings in the management controller (Redfish), and that driver and firmware "
        "are of one release.",
    ),
    "spod-info/vnic": Advice(
        "HCCL computes its peers' vNIC addresses and waits for the wrong one: EI0006.",
        "Restart the host; check that the super pod settings were not changed since it started.",
    ),
}

_NO_ROOT_INFO = (
    "The ranks of this host and the others do not find each other: HCCL gives up after HCCL_CONNECT_TIMEOUT "
    "with EI0015."
)
_FIREWALL = (
    "See `firewall-cmd --list-all`, `nft list ruleset` or `iptables -L -n` on the host, and open ports 60000 "
    "to 60031 between the hosts of the cluster."
)

_HOST_NET = {
    "host-net/unreachable": Advice(
        _NO_ROOT_INFO,
        "Check cable and state of the NIC (`ip -s link show`), its address, netmask and VLAN, and the host's "
        "firewall. If its peers reach it by another NIC, name that in the inventory (`nic:`).",
    ),
    "host-net/no-route": Advice(
        _NO_ROOT_INFO,
        "Add the route, or correct netmask and default gateway of the NIC; `ip route show` lists what there "
        "is.",
    ),
    "host-net/split": Advice(
        "A job over hosts of more than one part does not start: HCCL gives up with EI0015.",
        "Check the switches, VLANs and routers between the parts, and the netmasks on both sides.",
    ),
    "host-net/filtered": Advice(_NO_ROOT_INFO, _FIREWALL),
    "host-net/engine-ports": Advice(
        "Engines do not reach each other on these ports: requests and transfers between them fail or wait "
        "for a time-out.",
        "See `firewall-cmd --list-all`, `nft list ruleset` or `iptables -L -n` on the host, and open these "
        "ports between the hosts of the cluster; or correct `engine: {ports: …}` in the inventory.",
    ),
    "host-net/path-mtu": Advice(
        "Connections open, and then hang with the first large message: EI0015, or an engine that never gets "
        "ready.",
        "Give NICs, bonds, bridges and switch ports on the way one MTU (`ip link show`), and let ICMP "
        '"fragmentation needed" through firewalls.',
    ),
    "host-net/smaller-mtu": Advice(
        "TCP finds the smaller size out by itself, at the cost of smaller packets and a late start.",
        "Set the MTU of the NICs to what the way carries, or that of the way to what the NICs send.",
    ),
    "host-net/loss": Advice(
        "Starts take longer, up to HCCL_CONNECT_TIMEOUT (EI0015); engines lose their peers now and then.",
        "Look at the error counters of the NIC (`ip -s link show`, `ethtool -S`) and of its switch port, and "
        "change the cable.",
    ),
    "host-net/route": Advice(
        "HCCL listens on one NIC and sends over another; where routers or firewalls mind that, it ends with "
        "EI0015.",
        "Correct the host's routes, or name the NIC that its peers reach in the inventory (`nic:`), and set "
        "HCCL_SOCKET_IFNAME to the same.",
    ),
    "host-net/no-ping": Advice(
        "Loss and the size of packets that pass cannot be told.",
        "Let ICMP echo pass between the hosts of the cluster if you want that looked at.",
    ),
    "host-net/nic": Advice(
        "HCCL_SOCKET_IFNAME or HCCL_IF_IP made from it names nothing on the host: EI0001.",
        "Correct `nic:` in the inventory; `ip -o addr show` lists the interfaces and their addresses.",
    ),
    "host-net/which-nic": Advice(
        _NOT_KNOWN, "Name the NIC by which the peers reach the host in the inventory (`nic:`)."
    ),
    "host-net/tool-missing": Advice(
        _NOT_KNOWN, "Install it on the host (packages iputils, iproute and bash), and run the checks again."
    ),
    "host-net/no-mtu": Advice(
        _NOT_KNOWN, "See `ip -o link show` on both hosts, and run the checks again with the present version."
    ),
}

_SET_TLS = (
    "Set one value on every device of the cluster, as root: `hccn_tool -i N -tls -s enable 0` (or `1` "
    "everywhere)."
)
_ONE_SERVER_TWICE = "If two entries of the inventory are one server, remove one."

_OUT_OF_RAIL = (
    "The port is out of its rail: its traffic takes another way than planned, through the spine for example, "
    "and whoever works on a switch port hits another device than the one written down."
)
_ACROSS = {
    "tls-switch/refused": Advice("HCCL refuses to connect these devices: EI0016.", _SET_TLS),
    "tls-switch/time-out": Advice(
        "Connections between these devices and others time out: EI0006, as this driver (older than 25.2) "
        "does not compare the switches.",
        _SET_TLS,
    ),
    "tls-switch/either": Advice(
        "HCCL refuses to connect these devices (EI0016), or with drivers before 25.2 times out (EI0006).",
        _SET_TLS,
    ),
    "tls-switch/groups": Advice(
        "A job over several groups, or one that transfers between them, cannot connect: EI0016, with drivers "
        "before 25.2 EI0006.",
        f"{_SET_TLS} If the groups never talk to each other, this may stay.",
    ),
    "versions-equal/driver": Advice(
        "Connections may fail at start (EI0009) or time out (EI0006); hccs_ping works between equal drivers "
        "only.",
        "Install the HDK package (driver and firmware of one release) that the other hosts have, and restart "
        "the host.",
    ),
    "versions-equal/cann": Advice(
        "HCCL refuses ranks of different CANN versions: EI0008.",
        "Install the CANN packages that the other hosts have, or run the same container image everywhere.",
    ),
    "npu-model/model": Advice(
        "A job over several models runs at the pace of the slowest, or runs out of memory on the smallest "
        "(EI0011).",
        "Give servers of different kinds groups of their own in the inventory.",
    ),
    "npu-model/count": Advice(
        "With the same number of ranks on every host some are missing (EI0015), or the rank table does not "
        "fit (EI0014).",
        "Give servers of different size groups of their own in the inventory, or state `npus:` for a host "
        "that is used in part.",
    ),
    "clock/apart": Advice(
        "Ranks that start by the clock are too late for negotiation (EI0015); logs of the hosts cannot be "
        "put in order.",
        "Set up chrony or systemd-timesyncd with the same servers on every host, then set the clock once "
        "(`chronyc makestep`).",
    ),
    "clock/not-sure": Advice(
        _NOT_KNOWN,
        "The host took very long to answer, so that its clock could not be read closely: run the checks "
        "again for it, with `date` by hand if it stays.",
    ),
    "hostnames/shared": Advice(
        "HCCL is not affected; schedulers, Ray and logs take the hosts for one.",
        f"Set a name of its own with `hostnamectl set-hostname NAME`. {_ONE_SERVER_TWICE}",
    ),
    "hostnames/unresolved": Advice(
        "HCCL is not affected; Gloo in the engines falls back to loopback, and ranks on other hosts wait "
        "for it in vain.",
        "Give the name the address of the host's NIC in /etc/hosts or DNS, or set GLOO_SOCKET_IFNAME "
        "(`ascendctl env`).",
    ),
    "hostnames/loopback": Advice(
        "HCCL is not affected; Gloo in the engines listens on loopback, and ranks on other hosts wait for it "
        "in vain.",
        "In /etc/hosts give the name the address of the host's NIC in place of 127.0.0.1 or 127.0.1.1, or "
        "set GLOO_SOCKET_IFNAME (`ascendctl env`).",
    ),
    "hostnames/foreign": Advice(
        "HCCL is not affected; Gloo in the engines cannot listen on that address, and ranks wait for it in "
        "vain.",
        "Correct the name's address in /etc/hosts or DNS, or set GLOO_SOCKET_IFNAME (`ascendctl env`).",
    ),
    "mtu-equal/differs": Advice(
        "Large packets between this port and others are dropped: a running job ends with EI0013.",
        "Set it with `hccn_tool -i N -mtu -s size B`, equally on every port, and not above that of the "
        "switches.",
    ),
    "segments/unreachable": Advice(
        _NO_CONNECTION,
        "Put the port into the segment of its rail, or set gateways on both sides (`hccn_tool -i N -gateway "
        f"-s gateway G`). {_SET_ADDRESS}",
    ),
    "segments/netmask": Advice(
        "One side looks for the other in its own segment, the other sends to its gateway: connections time "
        "out (EI0006).",
        _SET_ADDRESS,
    ),
    "gateways-equal/differs": Advice(
        "Ranks in other segments cannot connect if nobody answers to this address: EI0006.",
        "Set it with `hccn_tool -i N -gateway -s gateway G`, and keep /etc/hccn.conf equal. Where a segment "
        "has two routers on purpose, waive this check for its hosts.",
    ),
    "duplicate-address/port": Advice(
        "The switch sends packets to either of the ports: connections fail or break at random (EI0006), and "
        "a rank table with the address is refused (EI0014).",
        f"Give every port an address of its own. {_SET_ADDRESS} {_ONE_SERVER_TWICE}",
    ),
    "duplicate-address/nic": Advice(
        "Ranks reach the wrong host while they negotiate: EI0015.",
        f"Give every host an address of its own. {_ONE_SERVER_TWICE}",
    ),
    "cabling/swapped": Advice(
        _OUT_OF_RAIL, "Exchange the two cables, or correct `cabling:` in the inventory."
    ),
    "cabling/elsewhere": Advice(
        _OUT_OF_RAIL, "Plug the cable where it belongs, or correct `cabling:` in the inventory."
    ),
    "cabling/observed": Advice(
        _OUT_OF_RAIL,
        "Compare with the cabling plan. State it in the inventory (`cabling:`) to have it judged, or waive "
        "this check where the cables are meant to be so.",
    ),
    "super-pods/server-index": Advice(
        _SAME_SUPER_POD,
        "Set the Server Index of one of the hosts in its management controller (Redfish) and restart it. "
        f"{_ONE_SERVER_TWICE}",
    ),
    "super-pods/apart": Advice(
        "HCCS joins dies of one super pod only, so that connections between these hosts time out: EI0006.",
        "If the host belongs to the pod, set its Super Pod ID in the management controller (Redfish) and "
        "restart it. Otherwise give all ports RoCE addresses (`hccn_tool -i N -ip -s address A netmask M`), "
        "or give the pods groups of their own in the inventory. HCCL_LOGIC_SUPERPOD_ID cannot join two pods.",
    ),
    "super-pods/astray": Advice(
        "HCCL wants the same number of servers in every super pod of a job; with a host whose Super Pod ID "
        "is wrong, connections time out (EI0006).",
        "If a host is in the wrong pod, set its Super Pod ID in the management controller (Redfish) and "
        "restart it. If the pods are meant so, plan jobs with as many hosts of each, and do not let "
        "HCCL_LOGIC_SUPERPOD_ID take them for one.",
    ),
}

_MESH_CANNOT_CONNECT = (
    "Ranks on it cannot connect to others: HCCL waits for its socket and times out (EI0006). Where only some "
    "packets are lost, operations slow down, time out (EI0002) or end in CQE errors (EI0013)."
)
_MESH_AGAIN = "then measure it again: `ascendctl verify --hosts … --packets 30`."
_MESH = {
    "mesh/device": Advice(
        _MESH_CANNOT_CONNECT,
        "RoCE: look at the port's module and cable, at its counters (`ascendctl verify --profile deep`) and "
        "at the switch port that `hccn_tool -i N -lldp -g` names. HCCS: look at `npu-smi info -t hccs` and "
        "at the board's event log. Reset the NPU, " + _MESH_AGAIN,
    ),
    "mesh/npu": Advice(
        _MESH_CANNOT_CONNECT,
        "Both dies of the NPU are cut off: look at `npu-smi info -t health`, at `dmesg` and at the board's "
        "event log; reset the NPU, " + _MESH_AGAIN + f" {_BOARD_FAULT}",
    ),
    "mesh/host": Advice(
        _MESH_CANNOT_CONNECT,
        "All devices of the host are concerned: look at its driver and firmware versions, its place in the "
        "super pod and the switches that it alone is attached to; restart it, " + _MESH_AGAIN,
    ),
    "mesh/link": Advice(
        _MESH_CANNOT_CONNECT,
        "Both devices reach others: look for routes, ACLs and hashing (ECMP) between their two switch ports, "
        + _MESH_AGAIN,
    ),
    "mesh/switch": Advice(
        "No rank behind it can connect to others: HCCL waits for its socket and times out (EI0006).",
        "Look at the switch: its uplinks and their counters, VLANs, routes, and what was changed last; "
        + _MESH_AGAIN,
    ),
    "mesh/super_pod": Advice(
        "HCCL connects over HCCS inside a super pod and times out (EI0006); the pod is not one network.",
        "Look at the level-2 switches of the super pod and at the ids that its servers were given in the "
        "management controller; " + _MESH_AGAIN,
    ),
    "mesh/address": Advice(
        "Packets reach now one device, now the other; HCCL refuses the address or the id (EI0014) or times "
        "out (EI0006).",
        "Give every device an address of its own (`hccn_tool -i N -ip -s address A netmask M`) and keep "
        "/etc/hccn.conf equal; SDID and server index are set in the management controller. Measure again.",
    ),
    "mesh/tls_group": Advice(
        "Ranks of the two sides cannot connect: EI0016, with drivers before 25.2 a time-out (EI0006).",
        "Make the TLS switch equal on all devices: `hccn_tool -i N -tls -s enable 0`.",
    ),
    "mesh-roce/pair-lost": Advice(
        "Ranks on these two devices cannot connect: HCCL waits for its socket and times out (EI0006).",
        "Both devices reach others: look for routes, ACLs and VLANs between their two switch ports, "
        + _MESH_AGAIN,
    ),
    "mesh-roce/pair-lossy": Advice(
        "A network that drops packets slows operations down, or ends them in CQE errors (EI0013).",
        "Measure with more packets, which tells chance from a fault: `ascendctl verify --packets 30`.",
    ),
    "mesh-roce/unmeasured": Advice(
        _NOT_KNOWN,
        "Follow the reason that is given: `hccs_ping` wants root (`privilege: sudo` in the inventory); a "
        "tool that hangs is a finding of its own; more time for pings is given with `--mesh-timeout`.",
    ),
}

ADVICE: dict[str, Advice] = {
    **_READING,
    **_REACH,
    **_TOOLS,
    **_NPUS,
    **_PORTS,
    **_PORTS_DEEP,
    **_DEVICES_DEEP,
    **_HOST_DEEP,
    **_CONF,
    **_SCALE_UP,
    **_ACROSS,
    **_HOST_NET,
    **_MESH,
}
