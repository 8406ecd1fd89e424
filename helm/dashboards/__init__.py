"""Grafana dashboards as Python: `board` has the pieces, a file each for the dashboards."""
