"""One replica's engine; it has never heard of Ray, HTTP or protobuf.

What goes in is `request`, what comes out is `events`, what can go wrong is `errors`; `config` holds the facts of the
three sizes. `engine` is the protocol, `borrowed` the first engine behind it. Files that import torch or transformers
(`borrowed`, `shard`, `weights`, `verify`, `family/`) are loaded by replica and rank processes only.
"""
