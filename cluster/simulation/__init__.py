"""Replays a trace through the policies that serve, on a virtual clock.

ask.py        a request as the simulator takes it          job.py        its part on one replica
fleet.py      what runs at the beginning, and may          batch.py      a replica that jumps over equal steps
stepped.py    a replica with the real scheduler            prefixes.py   what a jumping replica has cached
sized.py      the replicas of one size                     picking.py    which replica of a size
simulator.py  the loop                                     result.py     what became of everybody

The clock is a heap of instants of our own: a library for discrete events makes a coroutine of each request, which costs
more than all that is to be simulated of it.
"""
