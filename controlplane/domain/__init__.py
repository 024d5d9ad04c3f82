"""The ground: pure nouns and functions on the standard library only. It reads no clock, no file and no network."""
