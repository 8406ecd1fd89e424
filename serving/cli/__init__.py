"""One file per command of `gemmule`; each calls what exists and prints."""
