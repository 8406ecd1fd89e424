"""The OpenAI-style face: `app` has the routes, `body` reads JSON, `schemas` and `sse` write answers."""
