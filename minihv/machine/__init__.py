"""The machine: config (what is wanted) -> build (the board) -> run (loop, threads, stop) -> Report."""
