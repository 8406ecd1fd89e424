"""Many replicas: where they sit, who gets the request, how many there are.

Pure: `config`, `snapshot`, `routing`, `forecast`, `rules`, `limits`, `pacing`, `policy`, `brownout`, `guard`,
`watching`, `promise_watch`, `trail`, `placement`; of replicas of one size `replica_choice`, `known_blocks`, `chooser`,
`replica_report`. Without Ray, but with streams: `cascade`, `shadow`. Ray: `rank`, `replica`, `attempt`,
`router`, `replica_router`, `build`, `local`. Serving sees sizes, tiers, decisions and events; Ray ends here.
"""
