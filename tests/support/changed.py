"""Changes to stored results that keep their checksums valid."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.files import checksum_of
from scaling_study.storage.schema import signed


def write_manifest(folder: Path, manifest: Any) -> None:
    """Write a manifest with a valid checksum."""
    text = json.dumps(signed(manifest) if isinstance(manifest, dict) else manifest)
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def write_study(folder: Path, text: str) -> None:
    """Write a study's text, and remove its checksum and its digest from the manifest."""
    (folder / "study.toml").write_text(text, encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"].pop("study.toml")
    del manifest["identity"]["study"]
    write_manifest(folder, manifest)


def replace_chunk(file: Path, table: pa.Table) -> None:
    """Replace a chunk's table, and its name in the manifest."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    chunk = file.stem.rpartition("-")[0]
    name = f"{chunk}-{checksum_of(sink.getvalue())}.parquet"
    folder = file.parents[1]
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["chunks"] = [name if old == file.name else old for old in manifest["chunks"]]
    file.unlink()
    (file.parent / name).write_bytes(sink.getvalue())
    write_manifest(folder, manifest)


def replace_table(file: Path, data: bytes) -> None:
    """Replace a table beside the chunks, and its checksum in the manifest."""
    folder = file.parent
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][file.name] = checksum_of(data)
    file.write_bytes(data)
    write_manifest(folder, manifest)
