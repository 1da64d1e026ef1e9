"""A model as a Hugging Face folder that plain transformers loads, with what this project must know of it beside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from cg_data import storage
from cg_data.instruct.prompt import PROMPT_VERSION
from cg_data.settings import PageSettings
from cg_train.model.load import ABOUT_FILE, ModelAbout, weights_version


def export_folder(model: Any, processor: Any, folder: str, *, page: PageSettings, about: Mapping[str, Any]) -> ModelAbout:
    """Write `model` in safetensors, in the number format that it has in memory; the folder appears when it is whole.

    Adapters are merged into the weights for good, so the model is not to be trained on afterwards. A folder that is already there is
    replaced.

    Args:
        model: `Qwen2_5_VLForConditionalGeneration`, or peft's wrapping of one.
        processor: `Qwen2_5_VLProcessor`.
        page: the page that the model was trained with.
        about: provenance in plain JSON values; goes into cerebragloss.json and the model card.

    Raises:
        StorageError: no space, no permission, or no mounted file system.
    """
    out = storage.local_path(folder).absolute()
    hidden = out.with_name(f".{out.name}.export")
    merged = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model  # peft takes seconds to import
    try:
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True)
        written = _write(merged, processor, hidden, page, about)
        shutil.rmtree(out, ignore_errors=True)
        hidden.rename(out)
    except (OSError, SafetensorError) as error:  # the latter where the disk refuses weights
        raise storage.storage_error(folder, error if isinstance(error, OSError) else OSError(str(error))) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)  # renamed by now, or unfinished
    return written


def _write(model: Any, processor: Any, folder: Path, page: PageSettings, about: Mapping[str, Any]) -> ModelAbout:
    model.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):  # safetensors writes them for the owner alone; others may serve what one has trained
        shutil.copymode(folder / "config.json", path)
    processor.save_pretrained(folder)
    written = ModelAbout(page=page, prompt_version=PROMPT_VERSION, version=weights_version(folder), provenance=dict(about))
    storage.write_json(str(folder / ABOUT_FILE), written.model_dump(mode="json"))
    storage.write_bytes(str(folder / "README.md"), _card(model, written).encode())
    return written


_CARD = """\
---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [EEG, qwen2_5_vl, cerebragloss]
---

# CerebraGloss model {version}

A Qwen2.5-VL ({parameters:,} parameters) that reads a ten-second page of nineteen-channel EEG as a picture and answers in words.
Its answers are drafts for a reader who checks them against the recording, never a diagnosis; it is not a medical device.

The page: {row} pixels and {uv:g} microvolts per row, {second} pixels per second, black on white, negative up, channels of the 10-20 system
from Fp1 down to O2. Prompt: {prompt}. `cerebragloss.json` holds the same for programs.

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
```

## Provenance

| | |
|---|---|
{provenance}
"""


def _card(model: Any, about: ModelAbout) -> str:
    values = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for key, value in sorted(about.provenance.items())
    }
    rows = [f"| {key} | {value.replace('|', '/').replace(chr(10), ' ')} |" for key, value in values.items()]
    return _CARD.format(
        version=about.version,
        parameters=model.num_parameters(),
        row=about.page.pixels_per_row,
        uv=about.page.microvolts_per_row,
        second=about.page.pixels_per_second,
        prompt=about.prompt_version,
        provenance="\n".join(rows),
    )
