"""Decisions and the order of work. Knows the ports, no network library.

The way of a blob: `blobs` (is it here? may this repository serve it?) ->
`flights` (who is bringing it?) -> `fill` (from which source, resumed where?)
-> `spool` (how far may a follower read?). The way of a manifest: `tags` (which
digest, how fresh?) -> `manifests` (have it or fetch it).
"""
