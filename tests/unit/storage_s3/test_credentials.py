"""Credentials: ours, else those of AWS's chain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.storage.s3.client import S3Client
from proxy.storage.s3.records import S3Records
from proxy.storage.s3.trouble import S3Unreachable
from tests.support.fake_s3 import FakeS3

CHAIN = {"access_key": None, "secret_key": None}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials from anywhere, and no instance to ask for them."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


async def signed_by(fake: FakeS3, **settings: object) -> tuple[str, str]:
    """The access key and the region in the signature of a request."""
    fake.objects["layout"] = b"{}"
    async with S3Client(fake.settings(**settings)) as client:
        await S3Records(client).get("layout")
    found = re.search(
        r"Credential=([^/]+)/\d+/([^/]+)/s3/", fake.asked[-1].headers["authorization"]
    )
    assert found
    return found[1], found[2]


async def test_configured_keys_win_and_the_region_has_a_default(fake, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert await signed_by(fake) == ("ak", "us-east-1")
    assert await signed_by(fake, region="eu-central-1") == ("ak", "eu-central-1")


async def test_a_session_token_is_sent(fake):
    await signed_by(fake, session_token="token")
    assert fake.asked[-1].headers["x-amz-security-token"] == "token"


async def test_keys_and_region_come_from_the_environment(fake, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert await signed_by(fake, **CHAIN) == ("from-environment", "eu-west-1")


async def test_keys_come_from_the_shared_file(fake, tmp_path):
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = from-file\naws_secret_access_key = s\n"
    )
    assert (await signed_by(fake, **CHAIN))[0] == "from-file"


async def test_keys_come_from_web_identity(fake, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("a-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/entrepot")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fake.url)
    assert (await signed_by(fake, **CHAIN))[0] == "from-web-identity"
    assert [one.method for one in fake.asked] == ["POST", "GET"]


async def test_without_any_it_says_so_and_finds_them_when_they_come(fake, tmp_path):
    fake.objects["layout"] = b"{}"
    async with S3Client(fake.settings(**CHAIN)) as client:
        records = S3Records(client)
        with pytest.raises(S3Unreachable, match="no credentials found"):
            await records.get("layout")
        assert fake.asked == []
        (tmp_path / "credentials").write_text(
            "[default]\naws_access_key_id = late\naws_secret_access_key = s\n"
        )
        assert await records.get("layout") is not None
