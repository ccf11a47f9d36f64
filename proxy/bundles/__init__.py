"""Bundles: images carried by hand, where no link leads.

A bundle is an OCI image layout (image-spec `image-layout.md`), as one tar archive, as
parts of one that only need to be put together again, or as a folder. skopeo, podman and
containerd read it, too. Its members, always in this order, so that who reads it knows
what is promised, and by whom, before the first blob:

    oci-layout                 {"imageLayoutVersion":"1.0.0"}
    entrepot/contents.json     what the bundle is, has and builds on (`contents.py`)
    entrepot/contents.sig      its checksum and, of a signed one, its signature (`signing.py`)
    index.json                 one descriptor for each image, annotated with its name
    blobs/<alg>/<hex>          every blob once, in the order of the contents

`contents.json` is canonical JSON (keys sorted, no white space, ASCII):

    v            1
    bundle       its id, 32 hex digits, drawn at random
    created      seconds since the epoch
    base         {"bundles": [...], "receipts": [...]}: ids of what it builds on
    platforms    ["linux/amd64", ...]; null for all
    repositories ["docker.io/library/alpine", ...]: upstream and repository, which the
                 lists below name by number
    images       [{"name", "repository": number, "tag": text or null, "digest",
                 "media_type", "size"}]; the name is `docker.io/library/alpine:3.20` or
                 `docker.io/library/alpine@sha256:...`
    referrers    [{"subject", "repository": number, "tag": text or null, "digest",
                 "media_type", "size", "artifact_type": text or null}]: signatures, SBOMs,
                 attestations; the tag is cosign's `sha256-....sig`, null for what the
                 referrers API tells
    blobs        [{"digest", "size", "media_type", "kind", "repositories": [number, ...]}]
                 in the order of the archive; kind: index, manifest, config, layer
    left_out     [[digest, size, [number, ...]], ...]: belongs to the images, but the other
                 side has it already (of a delta; otherwise empty)
    sha256       {"index.json": hex, "oci-layout": hex}

Since the contents tell every size, they tell the whole archive: names, headers, offsets
and its length (`archive.py`). One that differs in a single byte outside its blobs is not
what was signed, and one inside a blob does not match its digest.

A receipt (`receipts.py`) is carried back; the next bundle leaves out what it lists.
"""
