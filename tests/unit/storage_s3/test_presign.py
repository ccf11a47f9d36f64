"""Presigned URLs: for the public endpoint, in the configured form, without asking S3."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.storage.s3.presign import VALID_S, Presigner


async def presigned(connect, key, **settings: object) -> tuple[str, dict[str, list[str]]]:
    url = await Presigner(await connect(**settings)).presigned(key)
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qs(parts.query)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "http://s3.lan:9000/fake/"),
        ({"prefix": "a/b"}, "http://s3.lan:9000/fake/a/b/"),
        ({"addressing": "path"}, "http://s3.lan:9000/fake/"),
        ({"addressing": "virtual"}, "http://fake.s3.lan:9000/"),
        (
            {"redirect": True, "public_endpoint": "https://pub.example"},
            "https://pub.example/fake/",
        ),
        ({"endpoint": None, "region": "eu-west-1"}, "https://fake.s3.eu-west-1.amazonaws.com/"),
    ],
)
async def test_a_url_names_the_blob_where_clients_reach_it(fake, connect, sealed, settings, where):
    key, _ = sealed(b"blob")
    url, query = await presigned(connect, key, **{"endpoint": "http://s3.lan:9000", **settings})
    assert url == f"{where}blobs/public/sha256/{key.digest.hex[:2]}/{key.digest.hex}"
    assert query["X-Amz-Expires"] == [str(VALID_S)]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert fake.asked == []
