"""What is shown of a run: pure functions of the recorded statistics, no machine and no engine."""
