"""Peers: other quantization libraries, each in an environment of its own, on the same work as this project.

A peer is one file here. It says what to install and holds the work as functions that import the library when they are called:
the file is read by the runner, and run as `python -m benchmarks.peers.NAME JOB FOLDER` by the peer's own interpreter. It
therefore imports nothing at its top but the standard library and `benchmarks.peers.adapter`; model and photos are files in
FOLDER. Nothing that a peer needs is ever a dependency of this project.
"""
