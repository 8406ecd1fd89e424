"""How many replicas each size gets under one budget of devices."""
