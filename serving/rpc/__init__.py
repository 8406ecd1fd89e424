"""The gRPC face: `proto/` is the contract, `gen/` its generated code, `codec` translates, `servicer` answers."""
