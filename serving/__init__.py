"""The two faces of one service: OpenAI-style REST and gRPC.

`config` is the root of the configuration tree, `ask` the one validated form of a request, `service` turns an ask into
events, `status` is the one error table; `rest/` and `rpc/` only translate. `ingress` wears both faces in one process,
`main` is the command line.
"""
