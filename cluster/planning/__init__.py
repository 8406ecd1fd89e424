"""Sizes, degrees, precision, replicas and tier thresholds together: the cheapest plan that keeps the promises. Pure.

`mixes` says which sizes answer at a threshold, `demand` what a trace asks at its peak, `capacity` what one replica of a
candidate carries within an SLO, `candidates` what fits which device, `search` which of all plans is the cheapest, and
`binding` why it is not cheaper.
"""
