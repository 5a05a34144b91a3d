"""The benchmarks behind scripts/bench. Every performance claim of minihv comes from here."""
