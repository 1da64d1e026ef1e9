"""The waveform detector: what it is (`spec`), what it learns from (`references`), where its boxes lie (`boxes`), its network (`network`)
and its use (`detector`)."""
