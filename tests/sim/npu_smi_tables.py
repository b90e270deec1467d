"""States of hosts for which ``npu-smi info`` was captured: the figures alone, no text of the tool.

``dies``: NPU, chip, physical id, PCI bus, power in W (``-`` = not shown), temperature in °C, AI core
percent, HBM used in MiB. ``processes``: NPU, chip, pid, MiB, name (``-`` = blank), pid in container.
"""

from __future__ import annotations

from dataclasses import dataclass

from ascendctl.sim.model import Die, Host, Process


@dataclass(frozen=True)
class Table:
    version: str
    name: str
    dies: str
    processes: str = ""

    def host(self, generation: str) -> Host:
        dies = tuple(self._die(*line.split()) for line in self.dies.strip().splitlines())
        return Host("node01", generation, dies, npu_smi_version=self.version)

    def _die(
        self, npu: str, chip: str, phy: str, bus: str, power: str, heat: str, load: str, hbm: str
    ) -> Die:
        processes = []
        for line in self.processes.strip().splitlines():
            on_npu, on_chip, pid, memory, name, inside = line.split()
            if (on_npu, on_chip) == (npu, chip):
                container_pid = None if inside == "NA" else int(inside)
                processes.append(Process(int(pid), "" if name == "-" else name, int(memory), container_pid))
        return Die(
            npu_id=int(npu),
            chip_id=int(chip),
            phy_id=int(phy),
            logic_id=int(phy),
            name=self.name,
            bus_id=f"0000:{bus}:00.0",
            power_w=None if power == "-" else float(power),
            temperature_c=int(heat),
            aicore_percent=int(load),
            hbm_used_mib=int(hbm),
            processes=tuple(processes),
        )


TABLES: dict[str, Table] = {
    "npusmi_info__A2__24.1.0.3_no_process_section.txt": Table(
        version="24.1.0.3",
        name="910B3",
        dies="""
            0 0 0 C1 98.9 38 0 3382
            1 0 1 C2 101.0 39 0 3594
            2 0 2 81 98.2 39 0 3594
            3 0 3 82 99.3 40 0 3595
            4 0 4 01 95.0 40 0 3597
            5 0 5 02 102.8 44 0 3594
            6 0 6 41 102.4 44 0 3593
            7 0 7 42 92.5 43 0 3594
        """,
    ),
    "npusmi_info__A2__25.5.1_container_one_npu_id2.txt": Table(
        version="25.5.1",
        name="910B2C",
        dies="""
            2 0 2 52 87.8 31 0 3406
        """,
    ),
    "npusmi_info__A2__26.0.rc1_proc_container_pid.txt": Table(
        version="26.0.rc1",
        name="910B2",
        dies="""
            0 0 0 C1 424.0 64 100 38711
            1 0 1 01 93.6 44 0 3406
        """,
        processes="""
            0 0 1504884 35358 - 412309
        """,
    ),
    "npusmi_info__A3__24.1.rc3.5_idle.txt": Table(
        version="24.1.rc3.5",
        name="Ascend910",
        dies="""
            0 0 0 9D 180.2 38 0 3430
            0 1 1 9F - 37 0 3188
            1 0 2 99 185.9 39 0 3430
            1 1 3 9B - 37 0 3188
            2 0 4 95 173.4 36 0 3427
            2 1 5 97 - 37 0 3187
            3 0 6 91 176.2 36 0 3425
            3 1 7 93 - 36 0 3191
            4 0 8 8D 178.3 36 0 3414
            4 1 9 8F - 36 0 3201
            5 0 10 89 178.4 37 0 3415
            5 1 11 8B - 37 0 3203
            6 0 12 85 176.0 36 0 3413
            6 1 13 87 - 37 0 3201
            7 0 14 81 181.1 38 0 3427
            7 1 15 83 - 36 0 3187
        """,
    ),
    "npusmi_info__A3__25.3.rc1_procs_blank_names.txt": Table(
        version="25.3.rc1",
        name="Ascend910",
        dies="""
            0 0 0 9D 166.6 37 0 3150
            0 1 1 9F - 36 0 2886
            1 0 2 99 161.9 37 0 3156
            1 1 3 9B - 37 0 2875
            2 0 4 95 160.6 36 0 3149
            2 1 5 97 - 36 0 2886
            3 0 6 91 166.3 37 0 3154
            3 1 7 93 - 39 0 2875
            4 0 8 8D 171.5 37 0 58072
            4 1 9 8F - 38 0 58039
            5 0 10 89 162.5 37 0 58071
            5 1 11 8B - 36 0 58037
            6 0 12 85 205.0 40 0 56896
            6 1 13 87 - 37 0 57087
            7 0 14 81 195.6 40 0 56969
            7 1 15 83 - 39 0 57132
        """,
        processes="""
            4 0 1534604 54963 - NA
            4 1 1539371 55217 - NA
            5 0 1545073 54963 - NA
            5 1 1550598 55217 - NA
            6 0 1756550 116 - NA
            6 0 1732918 53740 - NA
            6 1 1756550 54252 - NA
            7 0 3910682 116 - NA
            7 0 3896157 53798 - NA
            7 1 3910682 54310 - NA
        """,
    ),
    "npusmi_info__A3__25.5.0_idle.txt": Table(
        version="25.5.0",
        name="Ascend910",
        dies="""
            0 0 0 9D 165.0 51 0 3158
            0 1 1 9F - 51 0 2883
            1 0 2 99 167.9 50 0 3157
            1 1 3 9B - 49 0 2884
            2 0 4 95 169.5 49 0 3136
            2 1 5 97 - 49 0 2893
            3 0 6 91 169.3 50 0 3143
            3 1 7 93 - 52 0 2894
            4 0 8 8D 173.5 51 0 3140
            4 1 9 8F - 52 0 2893
            5 0 10 89 170.5 51 0 3150
            5 1 11 8B - 51 0 2884
            6 0 12 85 172.9 49 0 3150
            6 1 13 87 - 51 0 2882
            7 0 14 81 174.4 50 0 3149
            7 1 15 83 - 49 0 2883
        """,
    ),
    "npusmi_info__A3__26.0.rc1_idle_full.txt": Table(
        version="26.0.rc1",
        name="Ascend910",
        dies="""
            0 0 0 9D 174.1 54 0 3139
            0 1 1 9F - 52 0 2892
            1 0 2 99 179.3 54 0 3132
            1 1 3 9B - 54 0 2893
            2 0 4 95 182.1 56 0 3144
            2 1 5 97 - 56 0 2880
            3 0 6 91 181.2 56 0 3132
            3 1 7 93 - 56 0 2891
            4 0 8 8D 172.6 53 0 3147
            4 1 9 8F - 54 0 2883
            5 0 10 89 182.0 54 0 3145
            5 1 11 8B - 54 0 2883
            6 0 12 85 180.7 54 0 3133
            6 1 13 87 - 57 0 2894
            7 0 14 81 174.1 55 0 3132
            7 1 15 83 - 54 0 2894
        """,
    ),
    "npusmi_info__A3__26.0.rc1_procs.txt": Table(
        version="26.0.rc1",
        name="Ascend910",
        dies="""
            0 0 0 9D 204.0 43 100 59807
            0 1 1 9F - 40 60 59536
            5 0 10 89 159.6 39 0 3140
            5 1 11 8B - 40 0 2882
        """,
        processes="""
            0 0 1774110 56684 VLLMWorker_PP NA
            0 1 1777209 56684 VLLMWorker_PP NA
        """,
    ),
    "npusmi_info__A3__26.1.1_busy_many_procs.txt": Table(
        version="26.1.1",
        name="Ascend910",
        dies="""
            0 0 0 AE 166.5 42 0 59436
            0 1 1 95 - 42 0 57963
            1 0 2 96 179.1 42 0 58220
            1 1 3 AF - 42 0 57956
            2 0 4 A8 177.3 43 0 58931
            2 1 5 84 - 43 0 58690
            3 0 6 85 190.2 43 0 58931
            3 1 7 A9 - 44 0 58690
            4 0 8 1C 178.5 43 0 58890
            4 1 9 03 - 43 0 58651
            5 0 10 04 180.2 43 0 58891
            5 1 11 1D - 42 0 58651
            6 0 12 16 178.8 44 0 58889
            6 1 13 3A - 44 0 58651
            7 0 14 3B 177.4 43 0 58901
            7 1 15 17 - 43 0 58640
        """,
        processes="""
            0 0 20001 115 VLLMWorker_DP NA
            0 0 20002 115 VLLMWorker_DP NA
            0 0 20003 115 VLLMWorker_DP NA
            0 0 20004 115 VLLMEngineCor NA
            0 0 20005 115 vllm NA
            0 0 20006 115 VLLMWorker_DP NA
            0 0 20007 115 VLLMWorker_DP NA
            0 0 20008 115 VLLMWorker_DP NA
            0 1 20009 55135 VLLMWorker_DP NA
            1 0 20010 55133 VLLMWorker_DP NA
            1 1 20011 55133 VLLMWorker_DP NA
            2 0 20012 55855 VLLMWorker_DP NA
            2 1 20003 55855 VLLMWorker_DP NA
            3 0 20013 55855 VLLMWorker_DP NA
            3 1 20007 55855 VLLMWorker_DP NA
            4 0 20014 55827 VLLMWorker_DP NA
            4 1 20002 55827 VLLMWorker_DP NA
            5 0 20008 55827 VLLMWorker_DP NA
            5 1 20006 55827 VLLMWorker_DP NA
            6 0 20015 55827 VLLMWorker_DP NA
            6 1 20001 55827 VLLMWorker_DP NA
            7 0 20016 55827 VLLMWorker_DP NA
            7 1 20017 55827 VLLMWorker_DP NA
        """,
    ),
}
