"""`minihv nano`: what single operations cost on each engine, beside what was published in 2006."""
