"""The waveform detector: what it is (`spec`), where its boxes lie (`boxes`), its network (`network`) and its use (`detector`)."""
