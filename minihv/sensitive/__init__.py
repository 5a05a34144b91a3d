"""`minihv sensitive`: why trap-and-emulate did not work on x86, shown with the instructions that broke it."""
