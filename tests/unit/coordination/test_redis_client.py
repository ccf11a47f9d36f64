"""TLS, rights and addresses: what is trusted, and what is told when it isn't."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.coordination.redis import RedisConfig, RedisCoordination
from proxy.coordination.redis_client import new_client
from proxy.ports import Held
from tests.support.coordination_suite import KEY, NAME
from tests.support.private_ca import issue
from tests.support.redis_server import RedisServer, Tls, running
from tests.unit.coordination.conftest import Seen


async def works(config: RedisConfig) -> str:
    """Use all of it once; why it is not up, empty if it is."""
    seen = Seen()
    async with RedisCoordination(
        config, advertise_url="", observe=seen.events.append
    ) as coordination:
        coordination.touch(KEY)
        async with coordination.try_hold(NAME) as lease:
            assert not isinstance(lease, Held)
        await coordination.put("tag", b"value", ttl_s=5)
        assert await coordination.get("tag") == b"value"
        await coordination.delete("tag")
        assert len(await coordination.last_used([KEY])) == 1
    return "" if seen.states == ["ok"] else f"{seen.states} {seen.reasons}"


def client_pair(folder: Path) -> tuple[Path, Path]:
    """A client's certificate that vouches for itself, and its key."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a replica")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "client.pem", folder / "client.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


@pytest.mark.e2e
async def test_tls_is_checked_against_the_given_authority(tmp_path: Path) -> None:
    ca, stranger = issue(tmp_path / "ca"), issue(tmp_path / "stranger")
    server = RedisServer(tmp_path / "redis", tls=Tls(ca.ca, ca.cert, ca.key))
    with running(server):
        trusting = RedisConfig(url=server.url, ca_file=str(ca.ca))
        assert await works(trusting) == ""
        assert "certificate verify failed" in await works(RedisConfig(url=server.url))
        mistaken = replace(trusting, ca_file=str(stranger.ca))
        assert "certificate verify failed" in await works(mistaken)
        # The certificate is for the address, not for a name.
        named = replace(trusting, url=f"rediss://localhost:{server.port}")
        assert "certificate verify failed" in await works(named)
        assert await works(replace(mistaken, insecure=True)) == ""
        assert "No such file" in await works(replace(trusting, ca_file=str(tmp_path / "none")))


@pytest.mark.e2e
async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    ca = issue(tmp_path / "ca")
    cert, key = client_pair(tmp_path / "client")
    tls = Tls(ca.ca, ca.cert, ca.key, client_ca=cert, client_cert=cert, client_key=key)
    server = RedisServer(tmp_path / "redis", tls=tls)
    with running(server):
        without = RedisConfig(url=server.url, ca_file=str(ca.ca))
        assert await works(without) != ""
        assert await works(replace(without, cert_file=str(cert), key_file=str(key))) == ""


@pytest.mark.e2e
async def test_a_user_with_few_rights_is_enough(tmp_path: Path) -> None:
    rights = "+eval +get +set +del +zadd +zmscore +zremrangebyrank"
    server = RedisServer(
        tmp_path / "redis",
        options=(
            f"user replica on >s3cr3t resetkeys ~entrepot:* nocommands {rights}",
            "user reader on >s3cr3t ~* nocommands +get",
        ),
    )
    with running(server):
        config = RedisConfig(url=server.url, username="replica", password="s3cr3t")
        assert await works(config) == ""
        in_url = RedisConfig(url=f"redis://replica:s3cr3t@{server.address}/0")
        assert await works(in_url) == ""
        wrong = replace(in_url, password="wr0ng")
        assert "down" in (said := await works(wrong))
        assert "wr0ng" not in said
        assert "s3cr3t" not in said
        assert "permissions" in await works(replace(config, username="reader"))
        assert "permissions" in await works(replace(config, prefix="elsewhere"))
    assert "s3cr3t" not in repr(config)


@pytest.mark.e2e
async def test_databases_are_kept_apart(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    with running(server):
        assert await works(RedisConfig(url=f"{server.url}/3")) == ""
        assert "db3" in server.command("INFO", "keyspace")
        assert "db0" not in server.command("INFO", "keyspace")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RedisConfig(url="http://127.0.0.1"), "rediss://"),
        (RedisConfig(url="redis://127.0.0.1/cache"), "'cache'"),
        (RedisConfig(url="redis://127.0.0.1:port"), "port"),
        (RedisConfig(url="redis://127.0.0.1/1", cluster=True), "Cluster"),
        (RedisConfig(url="redis://", cluster=True, sentinels=("a:1",)), "Cluster"),
        (RedisConfig(url="redis://", sentinels=(":1",)), "':1'"),
    ],
)
def test_what_cannot_be_is_said_at_once(config: RedisConfig, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        new_client(config)
