"""Typed configuration of the service."""

from __future__ import annotations

from pydantic import Field

from cg_data.settings import Settings


class ServeSettings(Settings):
    host: str = "127.0.0.1"
    port: int = Field(default=8123, ge=1, le=65535)
    max_upload_mib: int = Field(default=256, ge=1)
    max_segments: int = Field(default=360, ge=1, description="segments interpreted per request")
    max_recordings: int = Field(default=32, ge=1, description="uploaded recordings kept in memory, oldest dropped first")
    max_new_tokens: int = Field(default=256, ge=1)
    detector_replicas: int = Field(default=1, ge=1)
    interpreter_replicas: int = Field(default=1, ge=1)
    cpus_per_replica: float = Field(default=0.5, ge=0)
    gpus_per_replica: float = Field(default=0.0, ge=0)
