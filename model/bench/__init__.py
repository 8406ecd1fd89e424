"""The engine against its peers: the same prompts and threads, by turns, beside what the machine could do at best.

`bench` runs it, `rounds` says in which order and turns measurements into rows, `engines` who can be asked and with
which Python, `files` makes what they load. Pure: `workload` (prompts), `timing` (percentiles), `shapes`
(configurations), `roof` (the least possible time), `rounds`. One process per engine: `runner` is our end of its pipe,
`lines` the other; `run_vllm`, `run_llama`, `run_gemmule` and `run_transformers` are the engines behind it, the last
two through `own` (T). A peer's Python has neither gemmule nor its dependencies, so it is shown the package `model`
alone, and `lines`, `workload` and `timing` import the standard library only. `checkpoint` (T) writes random weights of
a real shape, `gguf_file` the same tensors for llama.cpp, `measure` (T) what the machine can read and compute.
"""
