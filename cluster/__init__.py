"""Many replicas: where they sit, who gets the request, how many there are.

Pure: `config`, `snapshot`, `difficulty`, `policy`, `admission`, `placement`; of replicas of one size `replica_choice`,
`known_blocks`, `chooser`, `replica_report`, `replay`. Ray: `rank`, `replica`, `router`, `replica_router`, `build`,
`local`. Serving sees sizes, tiers, decisions and events; Ray ends here.
"""
