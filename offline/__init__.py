"""What it takes to install ascendctl where there is no network. Not part of the package."""
