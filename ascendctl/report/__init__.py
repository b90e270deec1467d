"""What is shown of a run: terminal, JSON, progress. A report never decides; it tells what was judged."""
