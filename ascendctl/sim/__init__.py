"""A simulated cluster: hosts that answer hccn_tool and npu-smi as real ones do, behind real SSH.

`spec` says which cluster and which faults; `healthy` and `faults` make its state, a `model`; `network` says
what pings meet in it; `tools` answers for it;
`render` writes that to disk as programs; `server` and `cluster` put them behind SSH on loopback.
"""
