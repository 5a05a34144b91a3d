"""What people and programs are told about a run: pure functions from recorded data to text."""
