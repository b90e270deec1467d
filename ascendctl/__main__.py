"""``python -m ascendctl``."""

from ascendctl.cli import main

main()
