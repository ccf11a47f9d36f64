"""What real S3 servers of tests have in common, whatever their make."""

from __future__ import annotations

from typing import Any

from tests.support.processes import Running

ACCESS_KEY, SECRET_KEY = "entrepot", "only for tests"
BUCKET = "entrepot"


class S3Server(Running):
    """One with the bucket `BUCKET` at `url`; what it has acknowledged survives `kill`."""

    url: str

    def settings(self, **more: Any) -> dict[str, Any]:
        """What stands under `storage: {s3: …}` to use it."""
        return {
            "endpoint": self.url,
            "bucket": BUCKET,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            **more,
        }
