"""Links: how weights travel between two engines, chosen by what kind of device each of them has."""
