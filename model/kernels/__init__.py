"""The arithmetic of a step in C++: packed linears, paged attention, norms. Built on first use, portable vectors."""
