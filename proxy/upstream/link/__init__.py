"""The link to the upstreams: how much of it may be used now, and whose turn it is.

`timetable.py` and `pacing.py` decide and know no event loop; `pacer.py` applies that to
the transfers of all upstreams. Only bodies of blobs are held back. Manifests and tokens
are small and on the way of somebody who waits: they are counted, and never wait.
"""
