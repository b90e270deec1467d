"""Checks between hosts: what must be equal, unique or reachable across a group, judged by its majority."""
