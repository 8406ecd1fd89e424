"""How fast replicas are, as files: `file` is the format, `lookup` finds a speed, `roofline` calculates the unmeasured.

`published.json` has data sheets of GPU kinds and what is assumed of them; no step of it was ever measured. `gemmule
bench speeds` writes a measured file for the machine that it runs on.
"""
