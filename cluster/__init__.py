"""Many replicas: where they sit, who gets the request, how many there are.

Pure: `config`, `snapshot`, `difficulty`, `policy`, `admission`, `placement`. Ray: `rank`, `replica`, `router`,
`build`, `local`. Serving sees sizes, tiers, decisions and events; Ray ends here.
"""
