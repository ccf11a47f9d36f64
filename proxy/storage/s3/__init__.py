"""S3 as the durable store that replicas share.

The only package that knows aiobotocore, and importing it imports aiobotocore
(0.2 s of CPU, 18 MB): do so only where S3 is configured.
"""

from proxy.storage.s3.store import S3Storage

__all__ = ["S3Storage"]
