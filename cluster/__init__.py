"""Many replicas: where they sit, who gets the request, how many there are.

Pure: `config`, `snapshot`, `routing`, `forecast`, `rules`, `limits`, `policy`, `guard`, `watching`, `trail`,
`placement`. Without Ray, but with streams: `cascade`. Ray: `rank`, `replica`, `router`, `build`, `local`. Serving sees
sizes, tiers, decisions and events; Ray ends here.
"""
